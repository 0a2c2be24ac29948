"""Big files that are read while a mode is followed that tells everything: a window at a time.

What is told of the rest of the file goes into the log at once; what is told of the window waits until the window is in
the log. So a file of which a hundred megabytes are written while it is read needs no memory for them, and is valid when
its last window is in the log and the capture has come to that moment.

Holes are left alone where the target has nothing yet; else they are looked at once more with their window open: a hole
that was found a minute ago may have been filled since, and told.
"""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from livelift.merge.blocks import DIGEST, HoleDigest, block_size, changed, digests
from livelift.merge.names import counted
from livelift.model.record import BaseFile, Kind, Range, Record, SetAttributes
from livelift.platform.system import allocated_extents, os
from livelift.source.content import WINDOW, Read, reader
from livelift.source.edge import attributes_of_fd
from livelift.source.gaps import Gaps
from livelift.source.journal import Journal
from livelift.source.told import ToldContent

UNKNOWN: Final = b"\xff" * DIGEST
KEEP_SIZE: Final = 1


class Windowed:
    """``outdated`` as that of `livelift.source.bigfiles`; ``stop``: a reading that has begun is given up."""

    def __init__(
        self,
        journal: Journal,
        told: ToldContent,
        gaps: Gaps,
        outdated: Callable[[int, int, int], bool],
        stop: threading.Event,
    ) -> None:
        self._journal = journal
        self._told = told
        self._gaps = gaps
        self._outdated = outdated
        self._stop = stop
        self.bytes_read = 0

    def read(self, oid: int, fd: int, at: int, gap: int, old: tuple[int, bytes] | None, direct: bool) -> bool:
        """All of the file (``old`` None: the target has nothing of it), or what differs from ``old`` digests. Its
        bracket is open. False: the full spool dropped something of it."""
        reading = _Reading(self, oid, fd, at, old)
        try:
            if not reading.begin():
                return True
            with reader(fd, direct) as read:
                if not reading.through(read):
                    return True
            if not reading.elided:
                reading.end(gap)
        finally:
            with self._journal.lock:
                self._told.leave(oid)
        return not reading.elided


class _Reading:
    def __init__(self, owner: Windowed, oid: int, fd: int, at: int, old: tuple[int, bytes] | None) -> None:
        self._owner = owner
        self._journal = owner._journal
        self._told = owner._told
        self._oid = oid
        self._fd = fd
        self._at = at
        self._fresh = old is None
        self._old = old or (0, b"")
        self._plan: deque[tuple[int, int, bool]] = deque()
        self._block = 0
        self._size = 0
        self._allocated: list[tuple[int, int]] = []
        self.elided = False

    def begin(self) -> bool:
        """False: its last name is gone."""
        attributes = attributes_of_fd(self._fd, os.fstat(self._fd))
        with self._journal.lock:
            index = self._journal.index
            place = index.place(self._oid)
            if place is None or place[0] < 0:
                return False
            self._told.enter(self._oid)
            st = os.fstat(self._fd)
            size = self._size = st.st_size
            self._block = block = block_size(size)
            records = [Record(Kind.TRUNCATE, Range(self._oid, *place, size, 0), b"", self._at)]
            if self._fresh:
                body = BaseFile(self._oid, *place, counted(index, self._oid, attributes))
                records.insert(0, Record(Kind.BASE_BEGIN, body, b"", self._at))
            self._journal.emit(records)
            count = -(-size // block)
            whole = size // block  # the target's last block has just been cut, or has grown
            known = self._old[1][: whole * DIGEST] if self._old[0] == block else b""
            self._old = block, known
            index.set_blocks(self._oid, block, known.ljust(count * DIGEST, b"\xff"))
        if self._fresh and st.st_blocks:
            self._allocated = [(e.offset, e.length) for e in allocated_extents(self._fd, size)]
        sparse = st.st_blocks * 512 < size
        self._lay_out(0, size, data_within(self._fd, 0, size) if sparse else [(0, size)] if size else [])
        return True

    def _lay_out(self, start: int, end: int, extents: list[tuple[int, int]]) -> None:
        """Windows of whole blocks in file order, in front of what is planned already."""
        block = self._block
        step = max(WINDOW // block, 1) * block
        plan: list[tuple[int, int, bool]] = []
        done = start
        for offset, length in extents:
            first = max(offset // block * block, done)
            last = min(-(-(offset + length) // block) * block, end)
            if first > done:
                plan.append((done, first, True))
            plan += [(at, min(at + step, last), False) for at in range(first, last, step)]
            done = max(done, last)
        if done < end:
            plan.append((done, end, True))
        self._plan.extendleft(reversed(plan))

    def through(self, read: Read) -> bool:
        """False: given up, because the agent ends or the file lost its last name."""
        while self._plan:
            start, end, hole = self._plan.popleft()
            if hole and self._fresh:
                continue
            while not hole and not self._journal.wait_room(end - start, 0.5):
                if self._owner._stop.is_set():
                    return False
            if self._owner._stop.is_set():
                return False
            with self._journal.lock:
                if self._journal.index.place(self._oid) is None:
                    return False
                self._told.window(self._oid, start, end)
            try:
                if hole:
                    self._hole(start, end)
                else:
                    self._data(start, read(start, min(end, self._size) - start))
            finally:
                with self._journal.lock:
                    self._told.window(self._oid, 0, 0)
        return True

    def _hole(self, start: int, end: int) -> None:
        filled = data_within(self._fd, start, min(end, self._size))
        if filled:
            self._lay_out(start, end, filled)
            return
        block, known = self._old
        count = -(-(end - start) // block)
        markers = HoleDigest.VALUE * count
        if min(end, self._size) % block:  # as in `_data`
            markers = markers[:-DIGEST] + UNKNOWN
        first = start // block
        if known[first * DIGEST : (first + count) * DIGEST] != markers:
            self._put(start, markers, [(Kind.PUNCH, start, min(end, self._size) - start, b"")])

    def _data(self, start: int, data: bytes) -> None:
        if not data:
            return
        self._owner.bytes_read += len(data)
        block, known = self._old
        here = digests(data, block)
        parts: list[tuple[Kind, int, int, bytes | memoryview]] = []
        if self._fresh:
            parts = [(Kind.BASE_EXTENT, start, len(data), data)]
        else:
            view = memoryview(data)
            for at, run, _ in changed(known, here, start // block, block):
                piece = view[at - start : at - start + run]
                parts.append((Kind.WRITE, at, len(piece), piece))
        if len(data) % block:  # a part of a block that may have grown by now
            here = here[:-DIGEST] + UNKNOWN
        self._put(start, here, parts)

    def _put(self, start: int, here: bytes, parts: list[tuple[Kind, int, int, bytes | memoryview]]) -> None:
        with self._journal.lock:
            place = self._journal.index.place(self._oid)
            if place is None or not parts:
                return
            records = [Record(k, Range(self._oid, *place, o, n), p, self._at) for k, o, n, p in parts]
            lost = self._journal.emit(records)
            self.elided = self.elided or self._oid in lost
            self._journal.index.set_digests(self._oid, start // self._block, here)

    def end(self, gap: int) -> None:
        attributes = attributes_of_fd(self._fd, os.fstat(self._fd))
        with self._journal.lock:
            index = self._journal.index
            place = index.place(self._oid)
            if place is None:
                return
            ranges = [Range(self._oid, *place, offset, length, KEEP_SIZE) for offset, length in self._allocated]
            records = [Record(Kind.ALLOCATE, body, b"", self._at) for body in ranges]
            records.append(Record(Kind.ATTRIBUTES, SetAttributes(self._oid, *place, attributes), b"", self._at))
            self._journal.emit(records)
            if not self._owner._outdated(self._oid, gap, self._at):
                index.set_racy(self._oid)  # what was told since is not in its stamp
                self._owner._gaps.close(self._oid)


def data_within(fd: int, start: int, end: int) -> list[tuple[int, int]]:
    """(offset, length) of what holds data between the two: lseek(2), SEEK_DATA. Moves the file offset."""
    found = []
    while start < end:
        try:
            begin = os.lseek(fd, start, os.SEEK_DATA)
            if begin >= end:
                break
            start = min(os.lseek(fd, begin, os.SEEK_HOLE), end)
        except OSError as error:
            if error.errno != errno.ENXIO:  # no data behind this
                raise
            break
        found.append((begin, start - begin))
    return found
