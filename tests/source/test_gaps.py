"""Gaps go into the log when they open and when they close."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from livelift.model.record import Gap, Kind, Link
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


def test_the_names_of_a_file_are_said_again_when_it_has_been_read() -> None:
    log: Any = Log()
    log.index = SimpleNamespace(places=lambda oid: [(2, b"a"), (-1, b"7"), (3, b"b"), (3, b"c")])
    log.emit = lambda records: log.records.extend((record.kind, record.body) for record in records)
    gaps = Gaps(log, lambda: 0.0)
    gaps.open(7, "verification")
    gaps.links(7)
    gaps.close(7)
    assert log.records[1:3] == [(Kind.LINK, Link(7, 3, b"b", 2, b"a")), (Kind.LINK, Link(7, 3, b"c", 2, b"a"))]
    assert [kind for kind, _ in log.records[3:]] == [Kind.GAP_CLOSED]
    gaps.open(7, "verification")
    gaps.close(7)
    assert len(log.records) == 6, "once"
