"""Files that were created and that the log does not know yet."""

from __future__ import annotations

import stat
from collections.abc import Callable

from livelift.merge.blocks import SMALL
from livelift.merge.brackets import Brackets
from livelift.model.entry import object_id, volume_of
from livelift.model.record import BaseFile, Kind, Record
from livelift.platform.system import os
from livelift.ports import Event
from livelift.source.dirty import Dirty, Mark
from livelift.source.edge import Small, read_small
from livelift.source.follower import Follower
from livelift.source.journal import Journal
from livelift.source.live import Gone, Live, Moved
from livelift.source.racy import is_racy, stamp_clock
from livelift.source.ready import Ready


class Newcomers:
    """``full(oid, mark)``: its content found no room in the spool."""

    def __init__(
        self,
        journal: Journal,
        live: Live,
        brackets: Brackets[Event],
        dirty: Dirty,
        follower: Follower,
        full: Callable[[int, Mark], None],
    ) -> None:
        self._journal = journal
        self._live = live
        self._brackets = brackets
        self._dirty = dirty
        self._follower = follower
        self._full = full
        self.bytes_read = 0

    def read(self, oid: int, mark: Mark) -> Ready:
        """A file that was created and that the log does not know: if it is small it goes in whole, as one record."""
        assert mark.place is not None
        parent, name = mark.place
        small: Small | None = None
        began = stamp_clock()
        try:
            with self._live.directory(parent) as fd:
                st = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISREG(st.st_mode) and st.st_nlink == 1 and self._live.object_of(st) == oid:
                    small = read_small(fd, name, SMALL)
        except (Moved, Gone, OSError):
            small = None  # settled by a look, or by the events that are on their way
        put = False

        def records() -> list[Record]:
            nonlocal put
            index = self._journal.index
            if index.place(oid) is not None:  # by another name
                self._follower.look_at(parent, name, mark.first)
                self._dirty.add(oid, True, mark.first)
                return []
            free = index.is_dir(parent) and not index.lookup(parent, name) and not self._brackets.is_open(parent)
            fits = small is not None and small.attributes.nlink == 1 and object_id(volume_of(oid), small.inode) == oid
            if small is None or not fits or not free:
                self._follower.look_at(parent, name, mark.first)
                return []
            put = True
            body = BaseFile(oid, parent, name, small.attributes, small.extents, small.allocated)
            return [Record(Kind.FILE, body, small.payload, mark.first)]

        def after(lost: list[int]) -> None:
            if not put or small is None:
                return
            self.bytes_read += len(small.payload)
            self._dirty.add(parent, False, mark.first)
            if oid in lost:
                self._full(oid, mark)
            elif is_racy(small.attributes.ctime, began):
                self._journal.index.set_racy(oid)

        return Ready(records, after)
