"""The names of a directory that is being listed, beside those that the log has: what is new, what moved, what is gone.

All that can change while it is looked at is settled by a second look with the merge lock held.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence

from livelift.merge.brackets import Brackets
from livelift.merge.names import Seen, make_kind
from livelift.model.entry import VOLUME_SHIFT, Attributes, make_stamp, object_id, volume_of
from livelift.model.record import Kind, Make, Record
from livelift.platform.system import os
from livelift.ports import Event
from livelift.source.dirty import Dirty
from livelift.source.edge import attributes_at
from livelift.source.exclude import Exclusions
from livelift.source.follower import Follower
from livelift.source.journal import Journal
from livelift.source.live import Gone, Live, Moved
from livelift.source.readers import Item
from livelift.source.walk_queue import Listing, WalkQueue
from livelift.walk.listing import Listed

Found = list[tuple[Listing, bytes, Seen]]


class Names:
    """``hand_over`` takes new files, whose brackets are open; ``trouble(directory, name, error)`` what could not be
    looked at."""

    def __init__(
        self,
        journal: Journal,
        live: Live,
        brackets: Brackets[Event],
        dirty: Dirty,
        queue: WalkQueue,
        scope: Exclusions,
        hand_over: Callable[[list[Item]], None],
        trouble: Callable[[int, bytes, OSError], None],
    ) -> None:
        self._journal = journal
        self._live = live
        self._brackets = brackets
        self._dirty = dirty
        self._queue = queue
        self._scope = scope
        self._hand_over = hand_over
        self._trouble = trouble
        self._reading: set[int] = set()  # new files that the readers have; the merge lock is held
        self._parked: dict[int, list[tuple[int, bytes]]] = {}  # further names of those
        self.follower: Follower

    # -- a listing ---------------------------------------------------------------------------------------------------

    def scoped(self, job: Listing, chunk: Sequence[Listed]) -> Sequence[Listed]:
        if self._scope.takes_all(job.oid):
            return chunk
        names = []
        for entry in chunk:
            if self._scope.included(job.oid, entry.name, entry.kind == stat.S_IFDIR):
                names.append(entry)
            elif self._scope.mount_point(job.oid, entry.name):
                self._mount_point(job, entry.name, entry.inode)
        return names

    def _mount_point(self, job: Listing, name: bytes, inode: int) -> None:
        """A mount that does not take part (proc, tmpfs), or a directory with a line of its own: the replica gets the
        empty directory that is below it, or will be."""
        with self._journal.lock:
            if not self._journal.index.lookup(job.oid, name):
                attributes = Attributes(stat.S_IFDIR | 0o755, 0, 0, 0, 0, 0, 0)
                oid = self._scope.stand_in(object_id(volume_of(job.oid), inode))
                self._journal.put(Kind.MKDIR, Make(oid, job.oid, name, attributes))

    def fresh(self, listed: list[tuple[Listing, Sequence[Listed]]]) -> None:
        """Directories of which the log has no name yet."""
        files: list[Item] = []
        found: Found = []
        for job, names in listed:
            volume = volume_of(job.oid) << VOLUME_SHIFT
            for name, inode, kind in names:
                if kind == stat.S_IFREG:
                    files.append(Item(job, name, volume | inode))
                else:
                    self._see(job, name, found)
        if files or found:
            self._take(files, found, False)

    def chunk(self, job: Listing, names: Sequence[Listed], rescan: bool, deep: bool) -> None:
        if rescan:
            names = [n for n in names if not self._unchanged(job, n.name, deep)]
        volume = volume_of(job.oid) << VOLUME_SHIFT
        found: Found = []
        for name, _, kind in names:
            if kind != stat.S_IFREG:
                self._see(job, name, found)
        self._take([Item(job, n.name, volume | n.inode) for n in names if n.kind == stat.S_IFREG], found, rescan)

    def _see(self, job: Listing, name: bytes, found: Found) -> None:
        try:
            seen = self._look(job.handle.fd, name)
        except OSError as error:
            self._vanished(job.oid, name, error)
            return
        if seen is not None:
            found.append((job, name, seen))

    def _take(self, files: list[Item], found: Found, rescan: bool) -> None:
        """New files go to the readers. New directories, symlinks and the like go into the log together; what is known
        under another name, or was known under this one, is settled."""
        fresh: list[Item] = []
        rest: list[Item] = []
        made: Found = []
        with self._journal.lock:
            index = self._journal.index
            known = index.which([item.oid for item in files])
            opened = self._brackets.open
            for item in files:
                taken = item.oid in known or (rescan and index.lookup(item.job.oid, item.name))
                if not taken and opened(item.oid):
                    fresh.append(item)
                else:  # a further link, a file that moved here, or a name that had another file
                    rest.append(item)
            self._reading.update(item.oid for item in fresh)
            if found:
                made = self._others(found, rescan)
        for job, name, seen in made:
            self._live.expect(seen.oid, job.oid, name)
            self._queue.add(seen.oid, True)
        if rest:
            more: Found = []
            for item in rest:
                assert isinstance(item.job, Listing)
                self._see(item.job, item.name, more)
            with self._journal.lock:
                self._others(more, rescan)
        if fresh:
            self._hand_over(fresh)

    def _others(self, found: Found, rescan: bool) -> Found:
        """The merge lock is held. Returns the directories that are new to the log.

        All else that is new is looked at once more: what was told of it since the first look was told of an object that
        the log did not know, and is not there. A directory's attributes come when its listing is done.
        """
        known = self._journal.index.which([seen.oid for _, _, seen in found])
        records: list[Record] = []
        made: Found = []
        settled: list[tuple[Listing, bytes]] = []
        for job, name, seen in found:
            a = seen.attributes
            if rescan or seen.oid in known or (a.nlink > 1 and not a.is_dir) or a.is_file:
                settled.append((job, name))
            else:
                # Met again in one of the directories behind, it has moved between two listings: made twice, it would
                # stay two objects for the log, and a directory could come to lie in itself.
                known.add(seen.oid)
                if a.is_dir:
                    made.append((job, name, seen))
                else:
                    now = self._same(job, name, seen)
                    if now is None:
                        settled.append((job, name))
                        continue
                    a = now
                records.append(Record(make_kind(a.mode), Make(seen.oid, job.oid, name, a)))
        if records:
            self._journal.emit(records)
        for job, name in settled:
            self._settle(job, name)
        return made

    def _same(self, job: Listing, name: bytes, seen: Seen) -> Attributes | None:
        """Of this object now; None: another one has the name, or none."""
        try:
            now = self._look(job.handle.fd, name)
        except OSError:
            return None
        if now is None or now.oid != seen.oid or stat.S_IFMT(now.attributes.mode) != stat.S_IFMT(seen.attributes.mode):
            return None
        return now.attributes

    def _look(self, fd: int, name: bytes) -> Seen | None:
        """None: on a mount that does not take part."""
        st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        oid = self._live.object_of(st)
        if not oid:
            return None
        if stat.S_ISDIR(st.st_mode):  # all its attributes come when its listing is done
            return Seen(oid, Attributes(st.st_mode, st.st_uid, st.st_gid, 0, st.st_mtime_ns, st.st_atime_ns, 0))
        return Seen(oid, attributes_at(fd, name))

    def _settle(self, job: Listing, name: bytes) -> None:
        """Looked at once more with the merge lock held: it may have moved since, and the log may know."""
        parent = job.oid
        try:
            seen = self._look(job.handle.fd, name)
        except OSError as error:
            self._vanished(parent, name, error)
            return
        if seen is None:
            return
        being_read = self._brackets.is_open(seen.oid) and self._journal.index.place(seen.oid) is None
        if seen.attributes.is_file and being_read:
            self._park(seen.oid, parent, name)
        else:
            self.follower.settle(parent, name, seen, 0)

    def _unchanged(self, job: Listing, name: bytes, deep: bool) -> bool:
        """True if the name leads where the index says; what changed behind it is marked."""
        with self._journal.lock:
            known = self._journal.index.known(job.oid, name)
        if known is None:
            return False
        try:
            st = os.stat(name, dir_fd=job.handle.fd, follow_symlinks=False)
        except OSError:
            return False
        if self._live.object_of(st) != known.oid or stat.S_IFMT(st.st_mode) != stat.S_IFMT(known.mode):
            return False
        if known.is_dir:
            if deep:
                self._queue.add(known.oid, True)
        elif make_stamp(st.st_size, st.st_mtime_ns, st.st_ctime_ns) != known.stamp:
            self._dirty.add(known.oid, True)
        return True

    def _park(self, oid: int, parent: int, name: bytes) -> None:
        """A further name of a file whose first name is being read: settled when that is in the log. The merge lock is
        held. There may be thousands of them, so nobody asks again and again."""
        if oid in self._reading:
            self._queue.count(1)
            self._parked.setdefault(oid, []).append((parent, name))
        else:
            self.again(parent, name)

    def again(self, oid: int, name: bytes) -> None:
        """It was replaced while it was being read: settled a moment later by what is there."""
        self._queue.later(lambda: self.look_again(oid, name), 0.03)

    def look_again(self, oid: int, name: bytes) -> None:
        try:
            with self._journal.lock:
                seen = self._live.look(oid, name)
                if (
                    seen is not None
                    and self._brackets.is_open(seen.oid)
                    and self._journal.index.place(seen.oid) is None
                ):
                    self._park(seen.oid, oid, name)
                    return
                self.follower.settle(oid, name, seen, 0)
            self._dirty.add(oid, False)
        except (Moved, Gone):
            self._queue.add(oid, False)
        except OSError as error:
            self._trouble(oid, name, error)

    def missing(self, job: Listing) -> None:
        """Names that the index has and the directory has not (any more)."""
        oid, fd = job.oid, job.handle.fd
        for known in self._journal.index.listing(oid):
            try:
                st = os.stat(known.name, dir_fd=fd, follow_symlinks=False)
                included = self._scope.included(oid, known.name, known.is_dir)
                if (self._live.object_of(st) == known.oid and included) or self._scope.mount_point(oid, known.name):
                    continue
            except OSError:
                included = True  # settled below, by a second look
            with self._journal.lock:
                try:
                    seen = self._live.look(oid, known.name) if included else None
                except (Moved, Gone):
                    return
                if self._journal.index.lookup(oid, known.name) == known.oid:
                    self.follower.settle(oid, known.name, seen, 0)

    def _vanished(self, oid: int, name: bytes, error: OSError) -> None:
        """A name that is gone since the listing is no trouble: its event waits at the bracket."""
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            self._trouble(oid, name, error)

    # -- what the readers have ---------------------------------------------------------------------------------------

    def finished(self, items: list[Item]) -> list[tuple[int, bytes]]:
        """They are in the log, or set aside: the further names that waited for that. The merge lock is held."""
        self._reading.difference_update(item.oid for item in items)
        return [place for item in items for place in self._parked.pop(item.oid, ())]
