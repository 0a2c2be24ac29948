"""Big files that the target has not at all: their whole content, in brackets, past the spool."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from livelift.merge.blocks import block_size
from livelift.merge.names import counted
from livelift.model.entry import Attributes
from livelift.model.record import BaseFile, Kind, Range, Record
from livelift.platform.system import allocated_extents, os
from livelift.source.content import Digests, Part, parts_of, reader
from livelift.source.dirty import Dirty
from livelift.source.edge import attributes_of_fd
from livelift.source.gaps import Gaps
from livelift.source.journal import Journal
from livelift.source.racy import is_racy

DIRECT_FROM = 4 << 20
DIRECT_QUIET = 60.0
"""Files from 4 MiB on that nobody wrote to for a minute are read with O_DIRECT: half the CPU, and the production
server's page
cache stays as it is. Not hot ones: a direct read first writes the file's dirty pages out."""


def is_cold(st: os.stat_result) -> bool:
    return st.st_size >= DIRECT_FROM and time.time() - st.st_mtime > DIRECT_QUIET


class BigFiles:
    """``stop``: set when the agent ends; a reading in progress is then given up (the next start reads it again)."""

    def __init__(self, journal: Journal, dirty: Dirty, gaps: Gaps) -> None:
        self._journal = journal
        self._dirty = dirty
        self._gaps = gaps
        self.stop = threading.Event()
        self.bytes_read = 0

    def base(self, oid: int, fd: int, st: os.stat_result, at: int, gap: int, began: int) -> None:
        """The whole content of a big file, bracketed; its payload is never spooled. ``began``: as for `is_racy`."""
        attributes = attributes_of_fd(fd, st)
        allocated = allocated_extents(fd, st.st_size) if st.st_blocks else []
        since = self._mark(Kind.BASE_BEGIN, oid, attributes, 0, ())
        new = Digests(block_size(st.st_size))
        with reader(fd, is_cold(st)) as read:
            for part in parts_of(fd, st, -1, None, new, read):
                self.bytes_read += len(part.payload)
                if part.kind is Kind.WRITE:
                    part = part._replace(kind=Kind.BASE_EXTENT)
                    while not self._journal.wait_room(len(part.payload), 0.5):
                        if self.stop.is_set():
                            return
                if self.emit(oid, part, at) is None:
                    return
        self._mark(Kind.BASE_END, oid, attributes, since, tuple((e.offset, e.length) for e in allocated))
        with self._journal.lock:
            if self._journal.index.place(oid) is None or self.outdated(oid, gap, at):
                return
            if is_racy(attributes.ctime, began):
                self._journal.index.set_racy(oid)
            self._journal.index.set_blocks(oid, new.block, bytes(new.value))
            self._gaps.close(oid)

    def _mark(
        self, kind: Kind, oid: int, attributes: Attributes, since: int, allocated: tuple[tuple[int, int], ...]
    ) -> int:
        with self._journal.lock:
            place = self._journal.index.place(oid)
            if place is None or place[0] < 0:
                return 0
            attributes = counted(self._journal.index, oid, attributes)
            return self._journal.put(kind, BaseFile(oid, *place, attributes, (), allocated, 0, since))

    def from_sectors(self, oid: int, found: tuple[Attributes, Iterator[tuple[int, bytes]]]) -> bool:
        """What a normal read refused, chunk by chunk. False: given up because the agent ends."""
        attributes, chunks = found
        since = self._mark(Kind.BASE_BEGIN, oid, attributes, 0, ())
        for offset, data in chunks:
            while not self._journal.wait_room(len(data), 0.5):
                if self.stop.is_set():
                    return False
            if self.emit(oid, Part(Kind.BASE_EXTENT, offset, len(data), data), 0) is None:
                return True
        self._mark(Kind.BASE_END, oid, attributes, since, ())
        self._gaps.close(oid)
        return True

    def emit(self, oid: int, part: Part, at: int) -> list[int] | None:
        """What the full spool dropped; None if the object lost its last name: nothing more needs to be sent."""
        with self._journal.lock:
            place = self._journal.index.place(oid)
            if place is None:
                return None
            return self._journal.emit(
                [Record(part.kind, Range(oid, *place, part.offset, part.length), part.payload, at)]
            )

    def outdated(self, oid: int, gap: int, at: int) -> bool:
        """True if a gap was opened while the object was being read: what was read of it, or what it was compared with,
        may be what the target lacks. It is read again, whole. The merge lock is held."""
        if self._gaps.number(oid) in (0, gap):
            return False
        self._journal.index.forget(oid)
        self._dirty.add(oid, True, at)
        return True
