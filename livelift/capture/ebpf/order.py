"""The ring's records in the order in which the files changed: places that were kept are filled, pairs are matched.

A write whose bytes were not resident when the inode was locked has its place in the ring (HELD) and its bytes later
(FILL, at the end of the same system call). A change of size has its place before the file system makes it (SETTING)
and is told when it has (TRUNCATE, or END). Everything behind a place waits for it: an order with a hole is none.

Operations that tell their end when the inode is unlocked again (fallocate, copies: BEGIN, and FLAG_ENDS): if something
came between beginning and end, nobody knows which was first, and the file is looked at. Copies within the kernel have
told their parts by then, each in its place: as writes, or as shared blocks (CLONE), of which the end says whether they
were shared.

What is under way at some position (`settled` False) may be visible without being in the log, so that position is no
cut. Pure; times are monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from livelift.capture.ebpf.records import ENDS, MORE, Event, Operation, Told
from livelift.model.record import Kind, Range, Record
from livelift.ports import Dirty, Exact, Lost

PATIENCE = 2.0
"""Seconds that a place waits. Bytes come within microseconds, unless the writer's disk stalls, or the record was
dropped (then the object is lost anyway), or the writer is a kernel thread that ends no system call."""


_OF_COPIES = (Operation.DIRTY, Operation.END)
"""How a copy within the kernel ends: something, or nothing, has been copied."""


class _Place:
    """``told``: HELD, SETTING or CLONE. ``event``: what has come for it; ``done`` without one: nothing happened."""

    def __init__(self, told: Told, since: float) -> None:
        self.told = told
        self.since = since
        self.done = False
        self.event: Event | None = None


class _Operation:
    """Between its beginning and its end. ``mixed``: something else happened to the file; ``told``: parts of it have
    been told; ``clone``: of these, the one that waits for the end."""

    def __init__(self, mixed: bool = False) -> None:
        self.mixed = mixed
        self.told = False
        self.clone: _Place | None = None


class Out(NamedTuple):
    """An event whose turn has come. ``later``: a mark of a change that may still be on its way."""

    event: Event
    later: bool = False


class Order:
    """One thread. ``taken`` and ``given`` count records in and out: what was in when `taken` was N is out when `given`
    is N or more."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._queue: deque[Out | _Place] = deque()
        self._places: dict[tuple[int, int, int], list[_Place]] = {}  # (task, object, offset; -1: SETTING)
        self._open: dict[int, dict[int, _Operation]] = {}  # object: task
        self._pieces: dict[int, float] = {}  # task: when the first piece of its call came
        self.taken = 0
        self.given = 0

    @property
    def settled(self) -> bool:
        """Nothing waits, and nothing is under way of which a part has been given out."""
        return not (self._queue or self._open or self._pieces)

    def feed(self, records: Iterable[Told], now: float) -> list[Out]:
        """Take these records in, in the ring's order; what can be given out now."""
        for told in records:
            self._take(told, now)
        if self._pieces:
            self._pieces = {task: since for task, since in self._pieces.items() if now - since < self._patience}
        return self._give(now)

    def lost(self, oid: int) -> None:
        """A record of this object (0: of any) was dropped: no end that it may have been is waited for."""
        if oid:
            self._open.pop(oid, None)
        else:
            self._open.clear()
            self._pieces.clear()

    # -- in ----------------------------------------------------------------------------------------------------------

    def _take(self, told: Told, now: float) -> None:
        op = told.op
        if op is Operation.FILL:
            for place in self._places.pop((told.task, told.oid, told.offset), ()):
                place.event, place.done = self._filled(place.told, told), True
            return
        if op is Operation.WHOLE:
            self._pieces.pop(told.task, None)
            return
        if told.flags & MORE:
            self._pieces.setdefault(told.task, now)
        elif self._pieces:
            self._pieces.pop(told.task, None)  # its WHOLE was dropped
        if op is Operation.BEGIN:
            self._begin(told)
            return
        operation = self._overlaps(told) if told.oid in self._open else None
        if op is Operation.CLONE:
            place = _Place(told, now)
            if operation is not None:
                operation.clone = place
            else:  # its beginning was dropped
                place.event, place.done = _look(told), True
            self._put(place)
        elif op is Operation.SETTING:
            self._keep((told.task, told.oid, -1), told, now)
        elif op is Operation.HELD:
            self._keep((told.task, told.oid, told.offset), told, now)
        elif operation is not None and told.flags & ENDS and op in _OF_COPIES and (operation.told or operation.clone):
            self._copied(operation, told)
        else:
            if not self._ends(told) and told.event is not None:
                self._put(Out(told.event, told.later))
            if operation is not None and told.flags & ENDS and operation.mixed:
                self._put(Out(_look(told)))

    def _begin(self, told: Told) -> None:
        tasks = self._open.setdefault(told.oid, {})
        others = [operation for task, operation in tasks.items() if task != told.task]
        for operation in others:
            operation.mixed = True
        tasks.setdefault(told.task, _Operation()).mixed |= bool(others)

    def _overlaps(self, told: Told) -> _Operation | None:
        """The operation of this task on this file, over with its end. For those of others this came in between."""
        tasks = self._open[told.oid]
        mine = tasks.get(told.task)
        if told.flags & ENDS:
            tasks.pop(told.task, None)
            if not tasks:
                del self._open[told.oid]
        elif mine is not None and told.op in (Operation.WRITE, Operation.HELD):
            mine.told = True
        for task, operation in tasks.items():
            if task != told.task:
                operation.mixed = True
        return mine

    def _copied(self, operation: _Operation, told: Told) -> None:
        """The end of a copy that has told its parts. Blocks that were shared in part are looked at."""
        if operation.clone is not None:
            place = operation.clone
            done = told.op is Operation.DIRTY and told.length >= place.told.length
            place.event, place.done = place.told.event if done else _look(told), True

    def _keep(self, key: tuple[int, int, int], told: Told, now: float) -> None:
        place = _Place(told, now)
        self._places.setdefault(key, []).append(place)
        self._put(place)

    def _ends(self, told: Told) -> bool:
        """True if a place has it now, or nothing happened."""
        if told.op is Operation.END and told.flags & ENDS:
            return True
        return told.op in (Operation.TRUNCATE, Operation.END) and self._set(told)

    def _set(self, told: Told) -> bool:
        """True if there was a place for this change of size (`END`: which did not happen)."""
        places = self._places.pop((told.task, told.oid, -1), None)
        if places is None:
            tasks = self._open.get(told.oid)  # its place was given up
            if tasks is not None and tasks.pop(told.task, None) is not None and not tasks:
                del self._open[told.oid]
            return told.op is Operation.END
        for place in places[:-1]:  # whose own end was dropped
            place.done = True
        places[-1].event, places[-1].done = told.event, True
        return True

    def _put(self, item: Out | _Place) -> None:
        self._queue.append(item)
        self.taken += 1

    # -- out ---------------------------------------------------------------------------------------------------------

    def _give(self, now: float) -> list[Out]:
        out: list[Out] = []
        while self._queue:
            item = self._queue[0]
            if isinstance(item, _Place):
                if not item.done and now - item.since < self._patience:
                    break
                event = item.event if item.done else self._give_up(item)
                if event is not None:
                    out.append(Out(event))
            else:
                out.append(item)
            self._queue.popleft()
            self.given += 1
        return out

    def _give_up(self, place: _Place) -> Event | None:
        """A change of size that takes long is told at its end, and until then it is under way. So are shared blocks,
        which are looked at then."""
        told = place.told
        if told.op is Operation.CLONE:
            for operation in self._open.get(told.oid, {}).values():
                if operation.clone is place:
                    operation.clone, operation.told = None, False
            return None
        setting = told.op is Operation.SETTING
        key = (told.task, told.oid, -1 if setting else told.offset)
        if place in self._places.get(key, ()):
            self._places[key].remove(place)
            if not self._places[key]:
                del self._places[key]
        if setting:
            self._open.setdefault(told.oid, {})[told.task] = _Operation()
            return None
        return _never(told)

    @staticmethod
    def _filled(held: Told, fill: Told) -> Exact | Lost:
        if len(fill.payload) != held.length:
            return _never(held)
        body = Range(held.oid, 0, b"", held.offset, held.length)
        return Exact(Record(Kind.WRITE, body, fill.payload, held.time))


def _look(told: Told) -> Dirty:
    return Dirty(told.oid, True, 0, b"", b"", told.time)


def _never(held: Told) -> Lost:
    return Lost(held.oid, held.oid >> 56, "content that was not in memory when it was written", held.time)
