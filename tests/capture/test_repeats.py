from __future__ import annotations

import pytest

from livelift.capture import repeats
from livelift.capture.repeats import Repeats
from livelift.ports import Event, Named, Op


def touched(*names: bytes) -> list[Event]:
    return [Named(Op.TOUCHED, 1, name) for name in names]


def never() -> int:
    raise AssertionError("the length of the queue was asked")


def test_both_names_of_a_rename_count() -> None:
    seen = Repeats(never)
    seen.note(Named(Op.RENAMED, 1, b"a", 5, 1, b"b"))
    assert seen.looks() == []
    seen.note(Named(Op.CREATED, 1, b"b"))
    assert seen.looks() == touched(b"b")
    assert seen.looks() == []
    seen.note(Named(Op.REMOVED, 1, b"a"))
    seen.note(Named(Op.REMOVED, 1, b"a"))
    seen.note(Named(Op.REMOVED, 2, b"b"))
    assert seen.looks() == touched(b"a")


def test_an_emptied_queue_forgets_and_a_full_read_does_not() -> None:
    seen = Repeats(never)
    seen.note(Named(Op.CREATED, 1, b"a"))
    seen.read_ended(1, emptied=False)
    seen.note(Named(Op.CREATED, 1, b"a"))
    assert seen.looks() == touched(b"a")
    seen.read_ended(1, emptied=True)
    seen.note(Named(Op.CREATED, 1, b"a"))
    assert seen.looks() == []


def test_a_queue_that_is_never_empty_does_not_fill_our_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "LIMIT", 10)
    asked: list[int] = []

    def queued() -> int:
        asked.append(30)
        return 30

    seen = Repeats(queued)

    def mention(*names: bytes) -> list[Event]:
        for name in names:
            seen.note(Named(Op.CREATED, 1, name))
        seen.read_ended(len(names), emptied=False)
        return seen.looks()

    assert mention(*(b"%d" % number for number in range(11))) == []
    assert asked == [30]
    assert mention(b"3", *(b"x%d" % number for number in range(9))) == touched(b"3")  # 20 left of those queued then
    assert mention(b"4", *(b"y%d" % number for number in range(19))) == touched(b"4")  # 0 left
    assert mention(b"5") == []  # what was said first had been read before this was queued
    assert len(seen._names) + len(seen._older) < 60
