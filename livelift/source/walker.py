"""The walk: directories are reconciled with the index, and the difference becomes log records.

First walk, newcomer subtree, rescan after an overflow or a restart: one algorithm. A directory is listed and compared
with what the log says about it. While it is being listed and its new files are being read its bracket is open, so
captured names on it wait (`livelift.merge.brackets`).
"""

from __future__ import annotations

import logging
import stat
import threading
from collections.abc import Callable, Sequence
from functools import partial

from livelift.merge.brackets import Brackets
from livelift.merge.names import Seen, make_kind
from livelift.model.entry import VOLUME_SHIFT, Attributes, make_stamp, object_id, stamp_of, volume_of
from livelift.model.problem import Problem
from livelift.model.record import Kind, Make, Record, SetAttributes
from livelift.platform.system import os
from livelift.ports import Capture, Event
from livelift.source.dirty import Dirty
from livelift.source.edge import attributes_at, attributes_of_fd, list_directory
from livelift.source.exclude import Exclusions
from livelift.source.follower import Follower
from livelift.source.gaps import Gaps
from livelift.source.journal import Journal
from livelift.source.live import Gone, Live, Moved
from livelift.source.readers import UNIT, Item, Outcome, Readers
from livelift.source.walk_queue import Listing, WalkQueue
from livelift.walk.listing import AT_ONCE, Listed

log = logging.getLogger(__name__)

TOGETHER = 16
"""Directories that are listed before what is new in them goes into the log: most hold a few names only, and a lock, an
append and a question to the index cost more than those."""

WALKERS = 2
"""Threads that list directories: on a cold disk one alone keeps the readers waiting."""

Guard = Callable[[Callable[[], None]], Callable[[], None]]


class Walker:
    """Some threads list (`run`), the readers read. ``roots`` gives the root objects, ``scope`` the exclusions."""

    def __init__(
        self,
        journal: Journal,
        live: Live,
        brackets: Brackets[Event],
        dirty: Dirty,
        bulk: Dirty,
        gaps: Gaps,
        roots: Callable[[], list[int]],
        scope: Exclusions,
        readers: int = 8,
    ) -> None:
        self._journal = journal
        self._live = live
        self._brackets = brackets
        self._dirty = dirty
        self._bulk = bulk
        self._gaps = gaps
        self._scope = scope
        self.queue = WalkQueue(roots)
        self._own = threading.local()
        self._reading: set[int] = set()  # new files that the readers have; the merge lock is held
        self._parked: dict[int, list[tuple[int, bytes]]] = {}  # further names of those
        self.readers = Readers(journal, self._read, readers)
        self.follower: Follower
        self.capture: Capture
        self.directories = 0
        self.problems: dict[tuple[int, bytes], Problem] = {}

    # -- the queue ---------------------------------------------------------------------------------------------------

    def add(self, oid: int, deep: bool) -> None:
        """Reconcile a directory (0: every root); ``deep``: and every known directory below it."""
        self.queue.add(oid, deep)

    def run(self, stop: threading.Event, guard: Guard) -> None:
        self.readers.start(guard)
        others = [
            threading.Thread(target=guard(lambda: self._walk(stop)), name=f"walk-{i}", daemon=True)
            for i in range(1, WALKERS)
        ]
        for other in others:
            other.start()
        try:
            self._walk(stop)
        finally:
            self.readers.stop()

    def _walk(self, stop: threading.Event) -> None:
        """``unit``: files that were found and not yet handed to the readers; each thread has its own."""
        unit = self._own.unit = []
        while not stop.is_set():
            taken = self.queue.take(TOGETHER, 0.0 if unit else 0.1)
            if taken:
                try:
                    self._reconcile(taken)
                finally:
                    self.queue.count(-len(taken))
            elif unit:
                self.readers.put(unit.copy())
                unit.clear()

    # -- some directories --------------------------------------------------------------------------------------------

    def _reconcile(self, taken: list[tuple[int, bool]]) -> None:
        """Several at once: what is new in small ones goes into the log together."""
        begun: list[tuple[int, bool, int, bool]] = []
        with self._journal.lock:
            index = self._journal.index
            for oid, deep in taken:
                if not index.is_dir(oid):
                    continue
                if self._brackets.open(oid):
                    begun.append((oid, deep, self._gaps.number(oid), index.has_children(oid)))
                else:
                    self.queue.later(0.1, partial(self.add, oid, deep))  # somebody else reads it
        jobs: dict[Listing, int] = {}
        fresh: list[tuple[Listing, Sequence[Listed]]] = []
        try:
            for oid, deep, gap, known in begun:
                job = self._begin(oid, deep, gap)
                if job is None:
                    continue
                jobs[job] = 1
                try:
                    self._list(job, deep, known, fresh)
                except OSError as error:
                    self._trouble(oid, b"", error)
            self._fresh(fresh)
        finally:
            self._leave(jobs)

    def _begin(self, oid: int, deep: bool, gap: int) -> Listing | None:
        """Open it; None (and no bracket any more) if that cannot be done now."""
        try:
            handle = self._live.acquire(oid)
        except (Moved, Gone, OSError) as error:
            with self._journal.lock:
                self.follower.reopen(oid)
            if isinstance(error, Moved):
                self.queue.later(0.1, lambda: self.add(oid, deep))  # its own rename is on its way
            elif isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                self._trouble(oid, b"", error)
            return None
        self.queue.count(1)
        self.directories += 1
        return Listing(oid, handle, gap)

    def _list(self, job: Listing, deep: bool, known: bool, fresh: list[tuple[Listing, Sequence[Listed]]]) -> None:
        """``known``: the log has names in it, so each is compared. What need not be goes to ``fresh``."""
        fd = job.handle.fd
        self.capture.watch_directory(job.oid, b"/proc/self/fd/%d" % fd)  # a path may be longer than PATH_MAX
        for chunk in list_directory(fd):
            names = self._scoped(job, chunk)
            if known or len(chunk) >= AT_ONCE:
                self._chunk(job, names, known, deep)
            elif names:
                fresh.append((job, names))
        if known:
            self._missing(job)

    def _scoped(self, job: Listing, chunk: Sequence[Listed]) -> Sequence[Listed]:
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
        """A mount that does not take part (proc, tmpfs): the replica gets the empty directory that is below it."""
        with self._journal.lock:
            if not self._journal.index.lookup(job.oid, name):
                attributes = Attributes(stat.S_IFDIR | 0o755, 0, 0, 0, 0, 0, 0)
                self._journal.put(Kind.MKDIR, Make(object_id(volume_of(job.oid), inode), job.oid, name, attributes))

    def _fresh(self, listed: list[tuple[Listing, Sequence[Listed]]]) -> None:
        """Directories of which the log has no name yet."""
        files: list[Item] = []
        found: list[tuple[Listing, bytes, Seen]] = []
        for job, names in listed:
            volume = volume_of(job.oid) << VOLUME_SHIFT
            for name, inode, kind in names:
                if kind == stat.S_IFREG:
                    files.append(Item(job, name, volume | inode))
                else:
                    self._see(job, name, found)
        if files or found:
            self._take(files, found, False)

    def _chunk(self, job: Listing, names: Sequence[Listed], rescan: bool, deep: bool) -> None:
        if rescan:
            names = [n for n in names if not self._unchanged(job, n.name, deep)]
        volume = volume_of(job.oid) << VOLUME_SHIFT
        found: list[tuple[Listing, bytes, Seen]] = []
        for name, _, kind in names:
            if kind != stat.S_IFREG:
                self._see(job, name, found)
        self._take([Item(job, n.name, volume | n.inode) for n in names if n.kind == stat.S_IFREG], found, rescan)

    def _see(self, job: Listing, name: bytes, found: list[tuple[Listing, bytes, Seen]]) -> None:
        try:
            seen = self._look(job.handle.fd, name)
        except OSError as error:
            self._vanished(job.oid, name, error)
            return
        if seen is not None:
            found.append((job, name, seen))

    def _take(self, files: list[Item], found: list[tuple[Listing, bytes, Seen]], rescan: bool) -> None:
        """New files go to the readers. New directories, symlinks and the like go into the log together; what is known
        under another name, or was known under this one, is settled."""
        fresh: list[Item] = []
        rest: list[Item] = []
        made: list[int] = []
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
        for oid in made:
            self.add(oid, True)
        if rest:
            more: list[tuple[Listing, bytes, Seen]] = []
            for item in rest:
                assert isinstance(item.job, Listing)
                self._see(item.job, item.name, more)
            with self._journal.lock:
                self._others(more, rescan)
        if fresh:
            self._hand_over(fresh)

    def _hand_over(self, fresh: list[Item]) -> None:
        with self.queue.lock:
            for item in fresh:
                assert isinstance(item.job, Listing)
                item.job.left += 1
        self.queue.count(len(fresh))
        unit: list[Item] = self._own.unit
        unit.extend(fresh)
        while len(unit) >= UNIT:
            self.readers.put(unit[:UNIT])
            del unit[:UNIT]

    def _others(self, found: list[tuple[Listing, bytes, Seen]], rescan: bool) -> list[int]:
        """The merge lock is held. Returns the directories that are new to the log."""
        known = self._journal.index.which([seen.oid for _, _, seen in found])
        records: list[Record] = []
        for job, name, seen in found:
            a = seen.attributes
            if rescan or seen.oid in known or (a.nlink > 1 and not a.is_dir) or a.is_file:
                self._settle(job, name)
            else:
                records.append(Record(make_kind(a.mode), Make(seen.oid, job.oid, name, a)))
        if records:
            self._journal.emit(records)
        return [r.body.oid for r in records if r.kind is Kind.MKDIR]  # type: ignore[union-attr]

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
                self.add(known.oid, True)
        elif make_stamp(st.st_size, st.st_mtime_ns, st.st_ctime_ns) != known.stamp:
            self._dirty.add(known.oid, True)
        return True

    def _park(self, oid: int, parent: int, name: bytes) -> None:
        """A further name of a file whose first name is being read: settled when that is in the log. The merge lock is
        held. There may be thousands of them, so nobody asks again and again."""
        if oid in self._reading:
            self.queue.count(1)
            self._parked.setdefault(oid, []).append((parent, name))
        else:
            self._again(parent, name)

    def _again(self, oid: int, name: bytes) -> None:
        """It was replaced while it was being read: settled a moment later by what is there."""
        self.queue.later(0.03, lambda: self._look_again(oid, name))

    def _look_again(self, oid: int, name: bytes) -> None:
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
            self.add(oid, False)
        except OSError as error:
            self._trouble(oid, name, error)

    def _missing(self, job: Listing) -> None:
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

    # -- the end of a directory --------------------------------------------------------------------------------------

    def _read(self, out: Outcome) -> None:
        """A reader finished these items; their records are in the log."""
        items = [*out.done, *out.again, *(item for item, _ in out.failed)]
        with self._journal.lock:
            for oid in self._brackets.close_quiet([item.oid for item in items]):
                self.follower.reopen(oid)
            self._reading.difference_update(item.oid for item in items)
            parked = [place for item in items for place in self._parked.pop(item.oid, ())]
        for item in out.large:
            self._bulk.add(item.oid, True, delay=0.0)
        for item in out.again:
            self._again(item.job.oid, item.name)
        for item, error in out.failed:
            self._locked(item, error)
        for parent, name in parked:
            self._look_again(parent, name)
            self.queue.count(-1)
        counts: dict[Listing, int] = {}
        for item in items:
            assert isinstance(item.job, Listing)
            counts[item.job] = counts.get(item.job, 0) + 1
        self._leave(counts)

    def _locked(self, item: Item, error: OSError) -> None:
        """A file that refuses a normal read: announced without content; the reader of changes tries its sectors."""
        try:
            attributes = attributes_at(item.job.handle.fd, item.name)
            with self._journal.lock:
                self.follower.settle(item.job.oid, item.name, Seen(item.oid, attributes), 0)
        except OSError as second:
            self._trouble(item.job.oid, item.name, second)

    def _leave(self, counts: dict[Listing, int]) -> None:
        """Parts of directories are done; after the last one their attributes are emitted and their brackets close."""
        ready = []
        with self.queue.lock:
            for job, count in counts.items():
                job.left -= count
                if not job.left:
                    ready.append(job)
        try:
            if ready:
                self._close(ready)
        finally:
            self.queue.count(-sum(counts.values()))

    def _close(self, jobs: list[Listing]) -> None:
        records: list[tuple[int, Attributes]] = []
        for job in jobs:
            try:
                records.append((job.oid, attributes_of_fd(job.handle.fd, os.fstat(job.handle.fd))))
            except OSError as error:
                self._trouble(job.oid, b"", error)
        try:
            with self._journal.lock:
                changed = []
                for oid, attributes in records:
                    found = self._journal.index.entry(oid)
                    if found is not None and stamp_of(attributes) != found[1].stamp:
                        parent, known = found
                        changed.append(Record(Kind.ATTRIBUTES, SetAttributes(oid, parent, known.name, attributes)))
                if changed:
                    self._journal.emit(changed)
                for job in jobs:
                    if self._gaps.number(job.oid) == job.gap:
                        self._gaps.close(job.oid)
                        for key in [k for k in self.problems if k[0] == job.oid]:
                            del self.problems[key]
        finally:
            for job in jobs:
                self._live.release(job.handle)
            with self._journal.lock:
                for oid in self._brackets.close_quiet([job.oid for job in jobs]):
                    self.follower.reopen(oid)

    def _vanished(self, oid: int, name: bytes, error: OSError) -> None:
        """A name that is gone since the listing is no trouble: its event waits at the bracket."""
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            self._trouble(oid, name, error)

    def _trouble(self, oid: int, name: bytes, error: OSError) -> None:
        reason = os.strerror(error.errno) if error.errno else str(error)
        path = (self._live.path_of(oid) or b"?") + (b"/" + name if name else b"")
        log.warning("%r: %s", path, reason)
        self.problems[oid, name] = Problem(
            path, "unreadable", reason, "check its permissions and its disk, or exclude it from the job"
        )
        self._gaps.open(oid, "unreadable", f"{os.fsdecode(name)}: {reason}" if name else reason)
