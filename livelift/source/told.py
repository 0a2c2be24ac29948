"""Content that an in-kernel mode tells: bytes and order are exact, only the locator is filled in."""

from __future__ import annotations

import stat
from typing import Final

import msgspec

from livelift.index.tree import Known
from livelift.merge.brackets import Brackets
from livelift.model.record import Changed, Kind, Range, Record, Reflink, SetAttributes, Xattr
from livelift.ports import Dirty as DirtyEvent
from livelift.ports import Event, Exact
from livelift.source.dirty import Dirty
from livelift.source.gaps import Gaps
from livelift.source.journal import Journal

TIMES = 1.0
"""Seconds after a change of content until the file's times are looked at."""

MAX_WAITING = 64 << 20
"""Bytes of captured content that may wait for brackets to close (an object that is read for minutes, and written)."""


Content = Range | SetAttributes | Xattr | Reflink | Changed

SHIFTS: Final = frozenset({Kind.COLLAPSE, Kind.INSERT})
"""What must not happen twice."""


_END: Final = 1 << 63


class _Window:
    """A part of a file. It grows by what waits for it: what is told later of those bytes comes behind that."""

    def __init__(self, start: int, end: int) -> None:
        self._start = start
        self._end = end
        self.held: list[Exact] = []

    def takes(self, event: Exact) -> bool:
        """True if the event waits for this window."""
        body = event.record.body
        if not isinstance(body, Range):
            return False
        start, end = body.offset, body.offset + body.length
        if event.record.kind is Kind.TRUNCATE:
            end = _END
        if start >= self._end or end <= self._start:
            return False
        self._start, self._end = min(self._start, start), max(self._end, end)
        self.held.append(event)
        return True


class ToldContent:
    """Records on objects, none on names. ``exact``: nobody else says that the object changed, so its times are marked
    to be looked at."""

    def __init__(self, journal: Journal, brackets: Brackets[Event], dirty: Dirty, gaps: Gaps) -> None:
        self._journal = journal
        self._brackets = brackets
        self._dirty = dirty
        self._gaps = gaps
        self._waiting: dict[int, int] = {}  # bytes of content that wait for an object's bracket
        self._windows: dict[int, _Window] = {}  # of objects that are read a window at a time
        self.exact = False

    def put(self, events: list[Exact]) -> None:
        """In order, in one append, which costs half of one for each. Dropped if the object was never begun: the walk
        will read the later state."""
        with self._journal.lock:
            index = self._journal.index
            records: list[Record] = []
            found: dict[int, tuple[int, Known] | None] = {}  # no name changes while the lock is held
            for event in events:
                record, body = event.record, event.record.body
                assert isinstance(body, Content)
                if self._brackets.is_open(body.oid) and self._waits(body.oid, event):
                    continue
                if record.kind in SHIFTS and not self._as_then(body.oid):
                    self._dirty.add(body.oid, True, record.time)
                    continue
                if body.oid not in found:
                    found[body.oid] = index.entry(body.oid)
                located = self._located(body, found[body.oid])
                if located is not None:
                    record.body = located
                    records.append(record)
            lost = self._journal.emit(records, late=False) if records else []
            index.wrote((r.kind, r.body) for r in records if isinstance(r.body, Range | Reflink))
            if self.exact:
                for oid in {record.body.oid for record in records}:  # type: ignore[union-attr]
                    self._dirty.add(oid, False, delay=TIMES)
            for oid in lost:
                self._gaps.open(oid, "spool full")
                self._dirty.add(oid, True, records[-1].time, delay=1.0)

    def _located(self, body: Content, entry: tuple[int, Known] | None) -> Content | None:
        """With the locator that is right now; None if the target has no such object, or it is read again instead."""
        if entry is None:
            return None
        parent, known = entry
        # Content of a new file may come before the removal of what had its inode number.
        if isinstance(body, Range | Reflink) and stat.S_IFMT(known.mode) != stat.S_IFREG:
            return None
        # Told of what got this inode number: its name waits to be looked at, with its attributes. The index must not
        # take another type for what the target has.
        if isinstance(body, Changed) and body.mode is not None and stat.S_IFMT(body.mode) != stat.S_IFMT(known.mode):
            return None
        if not isinstance(body, Reflink):
            return msgspec.structs.replace(body, parent=parent, name=known.name)
        source = self._journal.index.place(body.source_oid)
        if source is None or self._brackets.is_open(body.source_oid) or not self._as_then(body.oid, body.source_oid):
            self._dirty.add(body.oid, True)
            return None
        return msgspec.structs.replace(
            body, parent=parent, name=known.name, source_parent=source[0], source_name=source[1]
        )

    def _as_then(self, *oids: int) -> bool:
        """The target has these objects as they were at this event: nothing that was read of them later, and nothing
        that is still to be read because something before the event could not be told."""
        return not any(oid in self._journal.read or self._dirty.awaits_content(oid) for oid in oids)

    # -- while the object is being read ------------------------------------------------------------------------------

    def enter(self, oid: int) -> None:
        """Its bracket is open, and it is read a window at a time from here on; the first one is all of it."""
        self._windows[oid] = _Window(0, _END)

    def window(self, oid: int, start: int, end: int) -> None:
        """What is told of this part waits from here on; what waited for the one before goes into the log."""
        before = self._windows[oid]
        self._windows[oid] = _Window(start, end)
        if before.held:
            self.put(before.held)
            self._journal.late = self._journal.position()  # records of other objects have overtaken them

    def leave(self, oid: int) -> None:
        """It has been read, or given up; its bracket is still open."""
        if oid in self._windows:
            self.window(oid, 0, 0)
            del self._windows[oid]

    def _waits(self, oid: int, event: Exact) -> bool:
        window = self._windows.get(oid)
        once = event.record.kind in SHIFTS or event.record.kind is Kind.REFLINK
        if window is None or once:
            self._wait(oid, event)
            return True
        return window.takes(event)

    def _wait(self, oid: int, event: Exact) -> None:
        """Until the bracket closes; what is more than memory should hold becomes a mark: read the object again."""
        size = len(event.record.payload)
        once = event.record.kind in SHIFTS or event.record.kind is Kind.REFLINK  # what was read may have it already
        if once or (size and sum(self._waiting.values()) + size > MAX_WAITING):
            self._brackets.hold(oid, DirtyEvent(oid, True, time=event.record.time))
        elif self._brackets.hold(oid, event) and size:
            self._waiting[oid] = self._waiting.get(oid, 0) + size

    def waited(self, oid: int) -> None:
        """The bracket has closed, or nothing waits any more."""
        self._waiting.pop(oid, None)
