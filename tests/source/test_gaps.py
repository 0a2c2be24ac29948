"""Gaps go into the log when they open and when they close."""

from __future__ import annotations

import logging
import threading
from typing import Any

import msgspec
import pytest

from livelift.model.record import Gap, Kind
from livelift.source import gaps as module
from livelift.source.gaps import Gaps


class Log:
    """A journal that encodes what it is given, as the spool does."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.records: list[tuple[Kind, Gap]] = []

    def put(self, kind: Kind, body: Gap) -> None:
        msgspec.msgpack.encode(body)
        self.records.append((kind, body))


def test_a_name_that_is_not_utf8_can_be_told_at_both_ends() -> None:
    """The record of the closing could not be encoded: the agent stopped (found by the test that kills agents)."""
    log: Any = Log()
    gaps = Gaps(log, lambda: 0.0)
    gaps.open(7, "resync", "no \udcff\udcfe here")
    msgspec.json.encode(gaps.listing()[0][1].detail)
    gaps.close(7)
    assert [kind for kind, _ in log.records] == [Kind.GAP, Kind.GAP_CLOSED]
    assert {body.detail for _, body in log.records} == {"no \\udcff\\udcfe here"}


def test_what_a_gap_was_is_known_when_it_has_closed(caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "SAID", 2)
    log: Any = Log()
    gaps = Gaps(log, lambda: 0.0)
    gaps.open(7, "resync", "COLLAPSE: Invalid argument")
    gaps.open(7, "resync", "again")
    gaps.open(8, "spool full")
    gaps.open(9, "spool full")
    said = [record.getMessage() for record in caplog.records]
    assert said == ["gap: object 7: resync: COLLAPSE: Invalid argument", "gap: object 8: spool full"]
