"""The queue's marks over a real inotify instance: reuse of memory files, and the fallback where none can be watched."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator

import pytest

from livelift.capture.inotify_parse import parse
from livelift.capture.queue import NotificationQueue
from livelift.platform.linux.inotify import ATTRIB, inotify_add_watch, inotify_init
from livelift.ports import Dirty, Event, Synced


class Wired:
    """A queue whose events are those of its own files, plus one Dirty for each other event."""

    def __init__(self, limit: int = 1000) -> None:
        self.instance = inotify_init()
        self.slots: dict[int, int] = {}
        self.limit = limit
        self.queue = NotificationQueue(self.instance, 4096, self.watch)

    def watch(self, file: int, slot: int) -> None:
        if len(self.slots) >= self.limit:
            raise OSError(errno.ENOSPC, "limit")
        self.slots[inotify_add_watch(self.instance, b"/proc/self/fd/%d" % file, ATTRIB)] = slot

    def parse(self, buffer: bytes) -> list[Event]:
        events: list[Event] = []
        for raw in parse(buffer)[0]:
            events += self.queue.synced(self.slots[raw.watch]) if raw.watch in self.slots else [Dirty(raw.watch, False)]
        return events

    def read(self, timeout: float = 1) -> list[Event]:
        return self.queue.read(timeout, self.parse)


@pytest.fixture
def wired() -> Iterator[Wired]:
    wired = Wired()
    yield wired
    wired.queue.close()


def test_marks_come_in_order_and_files_are_reused(wired: Wired) -> None:
    for _ in range(3):
        for token in range(5):
            wired.queue.sync(token)
        assert wired.read() == [Synced(token) for token in range(5)]
    assert len(wired.slots) == 5


def test_the_same_token_twice_is_answered_twice(wired: Wired) -> None:
    wired.queue.sync(9)
    wired.queue.sync(9)
    assert wired.read() == [Synced(9), Synced(9)]


@pytest.mark.parametrize("limit", [0, 1])
def test_without_files_to_watch_the_empty_queue_answers(limit: int) -> None:
    wired = Wired(limit)
    try:
        assert wired.queue.marks is (limit == 1)
        for token in range(3):
            wired.queue.sync(token)
        events: list[Event] = []
        while len(events) < 3:
            events += (got := wired.read())
            assert got
        assert sorted(events) == [Synced(token) for token in range(3)]
        assert wired.read(0.01) == []
    finally:
        wired.queue.close()


def test_other_errors_are_not_swallowed() -> None:
    def broken(file: int, slot: int) -> None:
        raise OSError(errno.EIO, "broken")

    instance = inotify_init()
    with pytest.raises(OSError, match="broken"):
        NotificationQueue(instance, 4096, broken)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(instance)


def test_a_mark_from_another_thread_wakes_the_reader_in_both_ways() -> None:
    for limit in (0, 1000):
        wired = Wired(limit)
        try:
            timer = threading.Timer(0.05, wired.queue.sync, (4,))
            timer.start()
            started = time.monotonic()
            assert wired.read(10) == [Synced(4)]
            assert time.monotonic() - started < 5
            timer.join()
        finally:
            wired.queue.close()


def test_nothing_happens_for_the_timeout(wired: Wired) -> None:
    started = time.monotonic()
    assert wired.read(0.05) == []
    assert 0.045 < time.monotonic() - started < 2
