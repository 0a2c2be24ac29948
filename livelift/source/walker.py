"""The walk: directories are reconciled with the index, and the difference becomes log records.

First walk, newcomer subtree, rescan after an overflow or a restart: one algorithm. A directory is listed and compared
with what the log says about it. While it is being listed and its new files are being read its bracket is open, so
captured names on it wait (`livelift.merge.brackets`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from livelift.merge.brackets import Brackets
from livelift.merge.names import Seen
from livelift.model.entry import Attributes, stamp_of
from livelift.model.problem import Problem
from livelift.model.record import Kind, Record, SetAttributes
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
from livelift.source.walk_names import Names
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
        self.queue = WalkQueue(roots, lambda: journal.reached)
        self._own = threading.local()
        self.readers = Readers(journal, self._read, readers)
        self.names = Names(journal, live, brackets, dirty, self.queue, scope, self._hand_over, self._trouble)
        self.capture: Capture
        self.directories = 0
        self.problems: dict[tuple[int, bytes], Problem] = {}

    @property
    def follower(self) -> Follower:
        return self.names.follower

    @follower.setter
    def follower(self, follower: Follower) -> None:
        self.names.follower = follower

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
                    self.queue.put_off(oid, deep, 0.1)  # somebody else reads it
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
            self.names.fresh(fresh)
        finally:
            self._leave(jobs)

    def _begin(self, oid: int, deep: bool, gap: int) -> Listing | None:
        """Open it; None (and no bracket any more) if that cannot be done now."""
        position = self._journal.position()
        try:
            handle = self._live.acquire(oid)
        except (Moved, Gone, OSError) as error:
            with self._journal.lock:
                self.follower.reopen(oid)
            if isinstance(error, Moved):
                self.queue.put_off(oid, deep, 0.1, position)  # its own rename is on its way
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
            names = self.names.scoped(job, chunk)
            if known or len(chunk) >= AT_ONCE:
                self.names.chunk(job, names, known, deep)
            elif names:
                fresh.append((job, names))
        if known:
            self.names.missing(job)

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

    # -- the end of a directory --------------------------------------------------------------------------------------

    def _read(self, out: Outcome) -> None:
        """A reader finished these items; their records are in the log."""
        items = [*out.done, *out.again, *(item for item, _ in out.failed)]
        with self._journal.lock:
            for oid in self._brackets.close_quiet([item.oid for item in items]):
                self.follower.reopen(oid)
            parked = self.names.finished(items)
        for item in out.large:
            self._bulk.add(item.oid, True, delay=0.0)
        for item in out.again:
            self.names.again(item.job.oid, item.name)
        for item, error in out.failed:
            self._locked(item, error)
        for parent, name in parked:
            self.names.look_again(parent, name)
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
                self._journal.late = self._journal.position()  # a name that was not there may be told yet
                changed = []
                for oid, attributes in records:
                    found = self._journal.index.entry(oid)
                    if found is not None and found[1].is_dir and stamp_of(attributes) != found[1].stamp:
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

    def _trouble(self, oid: int, name: bytes, error: OSError) -> None:
        reason = os.strerror(error.errno) if error.errno else str(error)
        path = (self._live.path_of(oid) or b"?") + (b"/" + name if name else b"")
        log.warning("%r: %s", path, reason)
        self.problems[oid, name] = Problem(
            path, "unreadable", reason, "check its permissions and its disk, or exclude it from the job"
        )
        self._gaps.open(oid, "unreadable", f"{os.fsdecode(name)}: {reason}" if name else reason)
