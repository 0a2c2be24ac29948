"""A part of an object that cannot travel stands in the way of a cutover, unless the operator goes without it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from livelift.model.problem import Problem
from livelift.source import cutting
from livelift.source.cutting import Cutting


@pytest.mark.parametrize(("ignored", "found"), [((), 1), (("stream-too-large",), 0), (("other",), 1)])
def test_a_lost_part_is_a_gap(monkeypatch: pytest.MonkeyPatch, ignored: tuple[str, ...], found: int) -> None:
    lost = Problem(b"D:/file", "stream-too-large", "alternate stream of 100000 bytes", "exclude it")
    monkeypatch.setattr(cutting, "lost_parts", lambda: [lost])
    agent = SimpleNamespace(config=SimpleNamespace(ignored=ignored), gaps=SimpleNamespace(listing=lambda limit: []))
    gaps = Cutting(agent).open_gaps()  # type: ignore[arg-type]
    assert len(gaps) == found
    assert all("D:/file" in text and "stream-too-large" in text for text in gaps)
