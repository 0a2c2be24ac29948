"""The ring's records in the order in which the files changed: places that were kept are filled, pairs are matched.

A write whose bytes were not resident when the inode was locked has its place in the ring (HELD) and its bytes later
(FILL, at the end of the same system call). Everything behind the place waits for them: an order with a hole is none.
fallocate tells its end when the inode is unlocked again: if a write came between its beginning and its end, nobody
knows which was first, and the file is looked at. Pure; times are monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from livelift.capture.ebpf.records import Operation, Told
from livelift.model.record import Kind, Range, Record
from livelift.ports import Dirty, Exact, Lost

PATIENCE = 2.0
"""Seconds that a place waits for its bytes. They come within microseconds, unless the writer's disk stalls, or the
record was dropped (then the object is lost anyway), or the writer is a kernel thread that ends no system call."""


class _Place:
    def __init__(self, told: Told, since: float) -> None:
        self.told = told
        self.since = since
        self.event: Exact | Lost | None = None


class Out(NamedTuple):
    """An event whose turn has come. ``later``: a mark of a change that may still be on its way."""

    event: Exact | Dirty | Lost
    later: bool = False


class Order:
    """One thread. ``taken`` and ``given`` count records in and out: what was in when `taken` was N is out when `given`
    is N or more."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._queue: deque[Out | _Place] = deque()
        self._places: dict[tuple[int, int, int], list[_Place]] = {}  # (task, object, offset)
        self._open: dict[int, dict[int, bool]] = {}  # object: task: something else happened since its BEGIN
        self.taken = 0
        self.given = 0

    def feed(self, records: Iterable[Told], now: float) -> list[Out]:
        """Take these records in, in the ring's order; what can be given out now."""
        for told in records:
            self._take(told, now)
        return self._give(now)

    def _take(self, told: Told, now: float) -> None:
        op, key = told.op, (told.task, told.oid, told.offset)
        if op is Operation.FILL:
            for place in self._places.pop(key, ()):
                place.event = self._filled(place.told, told)
            return
        tasks = self._open.get(told.oid)
        if op is Operation.BEGIN:
            others = self._open.setdefault(told.oid, {})
            for task in others:
                others[task] = True
            others[told.task] = len(others) > 0
            return
        mixed = False
        if tasks is not None:
            mixed = tasks.pop(told.task, False)
            for task in tasks:
                tasks[task] = True
            if not tasks:
                del self._open[told.oid]
        if op is Operation.END:
            return
        if op is Operation.HELD:
            place = _Place(told, now)
            self._places.setdefault(key, []).append(place)
            self._put(place)
            return
        assert told.event is not None
        self._put(Out(told.event, told.later))
        if mixed:
            self._put(Out(Dirty(told.oid, True, 0, b"", b"", told.time)))

    def _put(self, item: Out | _Place) -> None:
        self._queue.append(item)
        self.taken += 1

    def _give(self, now: float) -> list[Out]:
        out: list[Out] = []
        while self._queue:
            item = self._queue[0]
            if isinstance(item, _Place):
                if item.event is None and now - item.since < self._patience:
                    break
                event = item.event or _never(item.told)
                self._forget(item)
                item = Out(event)
            out.append(item)
            self._queue.popleft()
        self.given += len(out)
        return out

    def _forget(self, place: _Place) -> None:
        told = place.told
        key = (told.task, told.oid, told.offset)
        if place in self._places.get(key, ()):
            self._places[key].remove(place)
            if not self._places[key]:
                del self._places[key]

    @staticmethod
    def _filled(held: Told, fill: Told) -> Exact | Lost:
        if len(fill.payload) != held.length:
            return _never(held)
        body = Range(held.oid, 0, b"", held.offset, held.length)
        return Exact(Record(Kind.WRITE, body, fill.payload, held.time))


def _never(held: Told) -> Lost:
    return Lost(held.oid, held.oid >> 56, "content that was not in memory when it was written", held.time)
