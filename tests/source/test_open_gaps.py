"""A part of an object that cannot travel stands in the way of a cutover, unless the operator goes without it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from livelift.model.problem import Problem
from livelift.source import service
from livelift.source.service import SourceService


@pytest.mark.parametrize(("ignored", "found"), [((), 1), (("stream-too-large",), 0), (("other",), 1)])
def test_a_lost_part_is_a_gap(monkeypatch: pytest.MonkeyPatch, ignored: tuple[str, ...], found: int) -> None:
    lost = Problem(b"D:/file", "stream-too-large", "alternate stream of 100000 bytes", "exclude it")
    monkeypatch.setattr(service, "lost_parts", lambda: [lost])
    agent = SimpleNamespace(config=SimpleNamespace(ignored=ignored), gaps=SimpleNamespace(listing=lambda limit: []))
    waiting = object.__new__(SourceService)
    waiting.agent = agent  # type: ignore[assignment]
    gaps = waiting.open_gaps()
    assert len(gaps) == found
    assert all("D:/file" in text and "stream-too-large" in text for text in gaps)
