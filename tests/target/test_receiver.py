"""A mark of the log is reached when everything before it has been applied, and nothing behind it."""

from __future__ import annotations

import threading
from types import SimpleNamespace

from livelift.model.record import Kind, Make, Mark, Record
from livelift.replay.replayer import ApplyResult
from livelift.target import receiver as module
from livelift.target.receiver import Receiver
from tests.source.fakes import file


class FakeReplayer:
    broken = False
    exact = True

    def __init__(self, applied: int = 0) -> None:
        self.applied_lsn = self.durable_lsn = applied

    def apply(self, records: list[Record]) -> ApplyResult:
        self.applied_lsn = max(self.applied_lsn, records[-1].lsn)
        return ApplyResult(self.applied_lsn, [], [])


def log(*labels: str) -> list[Record]:
    """A record for each; those with a label are marks."""
    kinds = [(Kind.SYNC, Mark(label)) if label else (Kind.CREATE, Make(7, 1, b"f", file())) for label in labels]
    return [Record(kind, body, lsn=number) for number, (kind, body) in enumerate(kinds, 1)]


def reached(monkeypatch, replayer: FakeReplayer, records: list[Record]) -> list[tuple[str, int]]:
    monkeypatch.setattr(module, "records_of", lambda heads, blob: records)
    seen: list[tuple[str, int]] = []
    receiver = Receiver(
        SimpleNamespace(),  # type: ignore[arg-type]
        replayer,  # type: ignore[arg-type]
        0,
        (),
        lambda message: None,
        lambda ask: None,  # type: ignore[arg-type,return-value]
        lambda label: seen.append((label, replayer.applied_lsn)),
    )
    receiver._apply(SimpleNamespace(heads=b"", blob=b"", size=0), replayer, threading.Event())  # type: ignore[arg-type]
    assert replayer.applied_lsn == records[-1].lsn
    return seen


def test_a_batch_is_divided_at_its_marks(monkeypatch):
    assert reached(monkeypatch, FakeReplayer(), log("", "a", "", "b", "c", "")) == [("a", 2), ("b", 4), ("c", 5)]
    assert reached(monkeypatch, FakeReplayer(), log("a")) == [("a", 1)]
    assert reached(monkeypatch, FakeReplayer(), log("", "")) == []


def test_a_mark_that_comes_again_after_a_broken_link_is_not_reached_again(monkeypatch):
    """The replica is beyond it by then."""
    assert reached(monkeypatch, FakeReplayer(3), log("", "a", "", "", "b")) == [("b", 5)]


def test_after_a_crash_the_replica_may_be_ahead_of_its_position(monkeypatch):
    replayer = FakeReplayer()
    replayer.exact = False
    assert reached(monkeypatch, replayer, log("", "a")) == []
