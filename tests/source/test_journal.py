"""Journal and gaps over a real spool and a real index."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from livelift.index.tree import TreeIndex
from livelift.model.record import BaseFile, Kind, Make, Range, Record
from livelift.source.gaps import Gaps
from livelift.source.journal import Journal
from livelift.spool.repair import iterate
from livelift.spool.spool import Spool
from tests.source.fakes import Time, directory, file

Opener = Callable[..., Journal]


@pytest.fixture
def open_journal(tmp_path: Path) -> Iterator[Opener]:
    opened: list[Journal] = []

    def make(cap: int = 1 << 20, on_collapse: Callable[[str], None] = lambda reason: None) -> Journal:
        index = TreeIndex(os.fsencode(tmp_path / "index"))
        journal = Journal(os.fsencode(tmp_path / "spool"), "0123abcd", index, cap, 1 << 20, on_collapse)
        opened.append(journal)
        return journal

    yield make
    for journal in opened:
        if not journal.spool._closed:
            crash(journal)


def crash(journal: Journal) -> None:
    """The process dies: nothing more is committed."""
    journal.index.close()
    journal.spool.close()


def fill(journal: Journal, count: int, start: int = 0) -> None:
    for i in range(start, start + count):
        journal.put(Kind.BASE_FILE, BaseFile(100 + i, 2, b"%d" % i, file(3, 7)), b"abc")


def test_a_record_is_in_the_log_and_in_the_index_at_once(open_journal):
    journal = open_journal()
    assert journal.put(Kind.MKDIR, Make(2, 0, b"0", directory())) == 1
    assert journal.emit([Record(Kind.CREATE, Make(10, 2, b"a", file()))]) == []
    assert journal.index.lookup(2, b"a") == 10
    assert journal.index.lsn == journal.spool.last_lsn == 2


def test_after_a_crash_the_index_is_folded_up_to_the_log(open_journal, tmp_path):
    journal = open_journal()
    fill(journal, 3)
    journal.commit()
    fill(journal, 4, 3)
    crash(journal)
    again = open_journal()
    assert again.index.lsn == 3
    assert again.recover()
    assert again.index.lsn == again.spool.last_lsn == 7
    assert again.index.lookup(2, b"6") == 106
    assert again.index.unsure_of(106), "base content is not spooled: it has to be read again"
    assert not again.index.unsure_of(101)
    crash(again)
    third = open_journal()
    assert third.index.lsn == 7, "recover has committed"


def test_an_index_that_is_ahead_of_its_log_says_so(open_journal, tmp_path):
    """A power cut that took the log's unsynced tail cannot happen after `commit`; a lost spool directory can."""
    journal = open_journal()
    fill(journal, 3)
    journal.commit()
    crash(journal)
    os.rename(tmp_path / "spool", tmp_path / "gone")
    assert open_journal().recover() is False


def test_what_the_index_has_not_durably_stays_in_the_log(open_journal, tmp_path):
    """The target had acknowledged it, whole segments of it were deleted, the agent was killed, and the index was folded
    on from behind a hole: directories that the log had moved were moved once more, and came to lie in each other."""
    journal = open_journal(cap=1 << 16)  # segments of 8 KiB
    fill(journal, 200)
    journal.spool.acked(200)
    assert journal.spool.oldest_lsn == 1
    crash(journal)
    again = open_journal(cap=1 << 16)
    assert again.recover()
    assert again.index.count == 200
    assert again.spool.oldest_lsn > 1, "recover has committed: what is acknowledged goes"
    fill(again, 200, 200)
    again.spool.acked(400)
    assert again.spool.oldest_lsn <= 201
    again.commit()
    assert again.spool.oldest_lsn > 201


def test_a_log_that_begins_behind_what_the_index_knows_says_so(open_journal, tmp_path):
    journal = open_journal(cap=1 << 16)
    fill(journal, 200)
    crash(journal)
    with Spool(os.fsencode(tmp_path / "spool"), "0123abcd") as spool:
        spool.acked(200)
    assert open_journal(cap=1 << 16).recover() is False


def test_commit_never_lets_the_index_know_more_than_the_synced_log(open_journal, monkeypatch):
    journal = open_journal()
    fill(journal, 2)
    order: list[str] = []
    monkeypatch.setattr(journal.spool, "sync", lambda: order.append("spool"))
    monkeypatch.setattr(journal.index, "commit", lambda: order.append("index"))
    journal.commit()
    assert order == ["spool", "spool", "index"]
    monkeypatch.undo()


def test_a_full_spool_drops_content_and_says_whose(open_journal):
    journal = open_journal(cap=64 << 10)
    journal.put(Kind.MKDIR, Make(2, 0, b"0", directory()))
    journal.put(Kind.BASE_FILE, BaseFile(10, 2, b"hot", file(3, 7)), b"abc")
    lost: list[int] = []
    for _ in range(40):
        lost += journal.emit([Record(Kind.WRITE, Range(10, 2, b"hot", 0, 4096), b"x" * 4096)])
    assert set(lost) == {10}
    assert journal.index.unsure_of(10), "what the target has is not to be relied on"
    assert journal.emit([Record(Kind.CREATE, Make(11, 2, b"n", file()))]) == [], "told once"


def test_a_log_that_cannot_even_hold_heads_is_given_up(open_journal):
    told: list[str] = []
    journal = open_journal(cap=16 << 10, on_collapse=told.append)
    for i in range(400):
        journal.put(Kind.CREATE, Make(10 + i, 2, b"%d" % i * 20, file()))
    assert told
    assert journal.index.count < 400, "it knows only what came after"
    assert journal.index.lsn == journal.spool.last_lsn > 400
    kinds = [r.kind for r in iterate(journal._directory)]
    assert kinds[0] is Kind.GAP


def test_collapse_goes_on_above_what_the_target_has(open_journal):
    told: list[str] = []
    journal = open_journal(on_collapse=told.append)
    fill(journal, 3)
    journal.collapse("power cut", at_least=1000)
    assert told == ["power cut"]
    assert journal.index.lsn == 1001
    assert journal.index.count == 0
    assert journal.put(Kind.MKDIR, Make(2, 0, b"0", directory())) == 1002


# -- gaps --------------------------------------------------------------------------------------------------------------


def log_of(journal: Journal) -> list[tuple[Kind, int, str]]:
    return [
        (r.kind, r.body.oid, r.body.reason)
        for r in iterate(journal._directory)
        if r.kind in (Kind.GAP, Kind.GAP_CLOSED)
    ]


def test_a_gap_is_in_the_log_and_makes_the_object_unsure(open_journal):
    journal = open_journal()
    fill(journal, 2)
    now = Time()
    gaps = Gaps(journal, now)
    gaps.open(100, "unreadable", "EIO")
    now.value += 1
    gaps.open(100, "spool full")
    assert (len(gaps), gaps.total) == (1, 1)
    assert gaps.is_open(100)
    assert not gaps.is_open(101)
    assert [(oid, *gap[:3]) for oid, gap in gaps.listing()] == [(100, "spool full", "", 1001.0)]
    assert journal.index.unsure_of(100)
    assert not journal.index.unsure_of(101)
    gaps.close(100)
    gaps.close(100)
    assert len(gaps) == 0
    assert log_of(journal) == [
        (Kind.GAP, 100, "unreadable"),
        (Kind.GAP, 100, "spool full"),
        (Kind.GAP_CLOSED, 100, "spool full"),
    ]


def test_every_opening_has_a_number_of_its_own(open_journal):
    """By which a reading that began before the last opening is known to be too old to close it."""
    journal = open_journal()
    fill(journal, 2)
    gaps = Gaps(journal, Time())
    assert gaps.number(100) == 0
    gaps.open(100, "resync")
    first = gaps.number(100)
    gaps.open(100, "resync")
    assert gaps.number(100) != first != 0
    gaps.open(-1, "overflow")
    gaps.forget_objects()
    assert (gaps.number(100), len(gaps)) == (0, 1)


def test_a_gap_that_is_opened_again_makes_it_unsure_again(open_journal):
    journal = open_journal()
    fill(journal, 1)
    gaps = Gaps(journal, Time())
    gaps.open(100, "spool full")
    journal.put(Kind.BASE_FILE, BaseFile(100, 2, b"0", file(3, 9)), b"abc")
    assert not journal.index.unsure_of(100)
    gaps.open(100, "spool full")
    assert journal.index.unsure_of(100)
    assert gaps.total == 1


def test_volumes_are_told_as_zero_in_the_log(open_journal):
    journal = open_journal()
    gaps = Gaps(journal, Time())
    gaps.open(-1, "overflow")
    gaps.open(0, "capture failed")
    assert len(gaps) == 2
    gaps.close(-1)
    assert gaps.is_open(0)
    assert [oid for _, oid, _ in log_of(journal)] == [0, 0, 0]


def test_who_asks_for_room_gives_way_first(open_journal: Opener) -> None:
    journal = open_journal()
    asked: list[str] = []
    journal.urgency.give_way = lambda: asked.append("way")  # type: ignore[method-assign]
    journal.spool.wait_room = lambda size, timeout: not asked.append(f"{size} {timeout}")  # type: ignore[assignment, method-assign, func-returns-value]
    assert journal.wait_room(7, 0.5)
    assert asked == ["way", "7 0.5"]
