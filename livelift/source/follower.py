"""Captured events become records: names in order, content as marks for the reader of changes.

One thread. It never blocks on the network or on a big file, so the kernel's queue stays short.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from livelift.merge.brackets import Brackets
from livelift.merge.names import Emit, Forget, Namer, ReadContent, Seen, Step, WalkDirectory, exchanges
from livelift.merge.told import as_named
from livelift.model.entry import stamp_of
from livelift.model.record import Changed, Link, Make, Range, Record, Reflink, Rename, SetAttributes, Unlink, Xattr
from livelift.ports import Capture, Event, Exact, Lost, Named, Op, Synced, ordered, ring
from livelift.ports import Dirty as DirtyEvent
from livelift.source.arrivals import Arrivals
from livelift.source.dirty import Dirty
from livelift.source.gaps import Gaps
from livelift.source.in_order import InOrder
from livelift.source.journal import Journal
from livelift.source.live import Gone, Live, Moved
from livelift.source.postponed import Postponed
from livelift.source.told import ToldContent

PACE = 0.005
"""Seconds that events may gather before they are processed: a thousand changes a second cost two hundred wake-ups."""

MANY = 32
"""Events of one read behind which the next follows at once: more come in PACE, and a ring of 64 KiB writes fills in a
tenth of a second."""

log = logging.getLogger(__name__)

URGENT = 0.1
"""The part of the capture's ring that may wait before others give way (`livelift.source.urgency`)."""

LOST_AGAIN = 5.0
"""Seconds between two walks of one directory that the capture cannot follow (no watch left): each would fail again."""


class Follower:
    """``walk(oid, deep)`` queues a directory for reconciling. ``in_scope(parent, name)`` False: excluded from the job.
    ``at_rest(passed)`` is called between two batches of an in-kernel mode at which nothing is half told: the log has
    what was told up to there, and nothing of what came after it."""

    def __init__(
        self,
        journal: Journal,
        live: Live,
        brackets: Brackets[Event],
        dirty: Dirty,
        gaps: Gaps,
        walk: Callable[[int, bool], None],
        in_scope: Callable[[int, bytes], bool],
    ) -> None:
        self._journal = journal
        self._live = live
        self._brackets = brackets
        self._dirty = dirty
        self._gaps = gaps
        self.walk = walk
        self._in_scope = in_scope
        self._namer = Namer(journal.index)
        self.told = ToldContent(journal, brackets, dirty, gaps)
        self._in_order = InOrder(journal, self._namer, brackets, dirty, in_scope, self.carry_out, self.map_of)
        self.at_rest: Callable[[int], None] = lambda passed: None
        self._later = Postponed()
        self._lost_at: dict[int, float] = {}  # directories walked because the capture lost them, and when
        self._walk_at: dict[int, float] = {}
        self._unseen: set[int] = set()  # directories in limbo, or below, in which something happened
        self._arrivals = Arrivals()
        self.events = 0
        self.failure: BaseException | None = None

    # -- the thread --------------------------------------------------------------------------------------------------

    def run(self, capture: Capture, stop: threading.Event) -> None:
        order, room = ordered(capture), ring(capture)
        while not stop.is_set():
            try:
                events = capture.read(0.1)
                reached = order.reached if order is not None else 0
                passed = order.passed if order is not None and order.settled else None
                self._journal.urgency.high = room is not None and room.filled() > URGENT
            except Exception as error:  # the capture is failed: everything since is a gap
                self.failure = error
                self._journal.urgency.high = False
                log.exception("capture failed")
                self._gaps.open(0, "capture failed", str(error))
                return
            if 0 < len(events) < MANY:
                stop.wait(PACE)  # what comes meanwhile is read together
            if events or self._later or self._unseen or self._walk_at:
                self.process(events)
            self._journal.reached = reached
            if passed is not None:
                self._journal.caught_up(passed)
                self.at_rest(passed)

    def process(self, events: Iterable[Event]) -> None:
        named: list[Named] = []
        told: list[Exact] = []  # content, which goes into the log together
        for event in events:
            self.events += 1
            if isinstance(event, Exact) and isinstance(event.record.body, Range) and not named:
                told.append(event)
                continue
            if told:
                self.told.put(told)
                told = []
            if isinstance(event, Named):
                named.append(event)
                continue
            if named and not isinstance(event, DirtyEvent):
                self._names(named)
                named = []
            if isinstance(event, DirtyEvent):
                # Marks commute with names, but a mark on a new object must come after its creation.
                if named:
                    self._names(named)
                    named = []
                self._mark(event)
            elif isinstance(event, Lost):
                self._lost(event)
            elif isinstance(event, Synced):
                self._arrivals.reported(event.token)
            else:
                self._exact(event)
        if told:
            self.told.put(told)
        if named:
            self._names(named)
        if self._later:
            with self._journal.lock:  # whoever settles what a listing found may postpone a name
                due = self._later.take(time.monotonic(), self._journal.reached)
            self._names(due)
        if self._walk_at:
            now = time.monotonic()
            for oid in [o for o, at in self._walk_at.items() if at <= now]:
                del self._walk_at[oid]
                self._lost_at[oid] = now
                self.walk(oid, False)
        if self._unseen:
            self._look_again()

    def _look_again(self) -> None:
        """Directories that came out of limbo are walked: what happened in them meanwhile could not be looked at."""
        with self._journal.lock:
            for oid in list(self._unseen):
                path = self._journal.index.path(oid)
                if path is None:
                    self._unseen.discard(oid)
                elif path[0].isdigit():
                    self._unseen.discard(oid)
                    self.walk(oid, False)

    @property
    def waits(self) -> bool:
        """True while names wait to be looked at again: what is in limbo may be behind one of them."""
        return bool(self._later)

    @property
    def idle(self) -> bool:
        if self._unseen:
            self._look_again()  # what is left waits for the purge of limbo
        return not self._later

    def sync(self, capture: Capture, timeout: float) -> bool:
        """Everything that happened before this call has been processed."""
        token = self._arrivals.ask()
        capture.sync(token)
        return self._arrivals.wait(token, lambda: self.failure is not None, timeout)

    # -- names -------------------------------------------------------------------------------------------------------

    def _names(self, events: list[Named]) -> None:
        for event, swap in exchanges(events):
            self._one_name(event, swap)

    def _one_name(self, event: Named, swap: int, told: Record | None = None) -> None:
        """``told``: the record that an in-kernel mode made of it."""
        with self._journal.lock:
            waits = next((p for p in (event.parent, event.new_parent) if p and self._brackets.hold(p, event)), 0)
            if waits:
                if swap:
                    self._brackets.hold(waits, event._replace(op=Op.TOUCHED))
                return
            if told is not None and self._in_order.follow(told, event, swap):
                return
            try:
                self._name(event, swap)
            except Moved:
                # The directory is not where the index says: its own rename is still on its way.
                self._postpone(event.parent, event.name, event.time, 0.2)
                if event.new_parent:
                    self._postpone(event.new_parent, event.new_name, event.time, 0.2)
            except Gone:
                # The directory left the tree, and what it held went with it; or it is in limbo and comes back.
                known = self._journal.index.is_dir
                self._unseen.update(p for p in (event.parent, event.new_parent) if p > 0 and known(p))
            except OSError as error:
                log.warning("name %r in object %d: %s", event.name, event.parent, error)
                self.walk(event.parent, False)

    def _postpone(self, parent: int, name: bytes, at: int, delay: float) -> None:
        """Look at the name a moment later."""
        if not self._later.add(parent, name, at, time.monotonic() + delay, self._journal.position()):
            self.walk(0, True)  # before the gap, which closes when nothing is left to walk
            self._gaps.open(-1, "too many postponed names")

    def _name(self, event: Named, swap: int) -> None:
        """``swap``: the second object of an exchange, or 0."""
        # Even if it shows nothing: what the event made has gone on, and the log says so when that has been told.
        self._journal.late = self._journal.position()
        index, namer = self._journal.index, self._namer
        parent_known = bool(event.parent) and index.is_dir(event.parent)
        target_known = bool(event.new_parent) and index.is_dir(event.new_parent)
        if swap and parent_known and target_known and namer.exchangeable(event, swap):
            self.carry_out(namer.exchange(event), event.time)
            self._touch(event, target_known)
            return
        if parent_known and not self._in_scope(event.parent, event.name):
            parent_known = False
        if target_known and not self._in_scope(event.new_parent, event.new_name):
            target_known = False
        if event.op is Op.CREATED and parent_known and event.child and not event.is_dir and self._is_news(event):
            # A new file: it goes into the log once, whole, when it has been read a moment later.
            self._dirty.add(event.child, True, event.time, (event.parent, event.name))
            return
        # A directory that is being walked stays known, in limbo if need be: its records are on their way into the log.
        walked = event.op is Op.REMOVED and self._brackets.is_open(event.child)
        # A mode that tells no objects (child 0) may speak of one that had this name before: those are always looked at.
        if parent_known and event.child and not swap and not walked and namer.trusted(event):
            self.carry_out(namer.follow(event, target_known, self.map_of(event.parent)), event.time)
        else:
            places = []
            if parent_known:
                places.append((event.parent, event.name))
            if target_known:
                places.append((event.new_parent, event.new_name))
            for parent, name in reversed(places):  # the new place first: what moved is then no longer at the old one
                seen = self._live.look(parent, name)
                self.settle(parent, name, seen, event.time)
                # Or told of what had its number before.
                if seen is not None and (event.op is Op.TOUCHED or self.told.exact):
                    known = index.known(parent, name)
                    a = seen.attributes
                    if known is not None and stamp_of(a) != known.stamp:
                        self._dirty.add(seen.oid, True, event.time)
        self._touch(event, target_known)

    def look_at(self, parent: int, name: bytes, at: int) -> None:
        """Settle a name by what is there now. The merge lock is held."""
        self._names([Named(Op.TOUCHED, parent, name, time=at)])

    def _is_news(self, event: Named) -> bool:
        index = self._journal.index
        return (
            index.place(event.child) is None
            and not index.lookup(event.parent, event.name)
            and not self._brackets.is_open(event.child)
            and not self._dirty.is_new(event.child)  # then this is a further link, and is looked at
        )

    def _touch(self, event: Named, target_known: bool) -> None:
        self._dirty.add(event.parent, False, event.time)
        if target_known:
            self._dirty.add(event.new_parent, False, event.time)

    def settle(self, parent: int, name: bytes, seen: Seen | None, at: int) -> None:
        """Make the log say what is seen at this name (walk and retries call it). The merge lock is held."""
        if seen is not None and self._brackets.is_open(seen.oid) and self._journal.index.place(seen.oid) is None:
            # The walk is reading it under its first name: made here as well, it would become two files.
            self._postpone(parent, name, at, 0.2)
            return
        self._journal.late = self._journal.position()  # even if there is nothing to say
        if seen is not None and seen.attributes.is_dir and self._journal.index.lookup(parent, name) != seen.oid:
            self._live.expect(seen.oid, parent, name)  # it will be walked
        self.carry_out(self._namer.settle(parent, name, seen, self.map_of(parent)), at)

    def remove(self, parent: int, name: bytes, at: int) -> None:
        self.carry_out(self._namer.remove(parent, name), at)

    def set_aside(self, parent: int, name: bytes, at: int) -> None:
        self.carry_out(self._namer.set_aside(parent, name, self.map_of(parent)), at)

    def carry_out(self, steps: Iterable[Step], at: int, late: bool = True) -> None:
        """Each record is folded before the planner goes on: it is a generator over the index. ``late`` False: an
        in-kernel mode told it, so nothing of it needs to be read but attributes."""
        for step in steps:
            match step:
                case Emit(kind, body):
                    self._journal.emit([Record(kind, body, b"", at)], late)
                    # On the target this changes the times of its directories. An event's own are marked anyway; what a
                    # look found (events were lost) may have come after their last reading.
                    for parent in (body.parent, body.new_parent if isinstance(body, Rename) else 0):
                        if parent > 0:
                            self._dirty.add(parent, False, at)
                case ReadContent(oid, _):
                    self._dirty.add(oid, late, at)
                case WalkDirectory(oid):
                    self.walk(oid, True)
                case Forget(oid):
                    self._dirty.forget(oid)
                    self._live.forget(oid)
                    self._gaps.close(oid)

    def map_of(self, oid: int) -> int:
        """The map that a directory belongs to, by following its parents in the index."""
        path = self._journal.index.path(oid)
        if path is None or not path or not path[0].isdigit():
            return 0
        return int(path[0])

    # -- the rest ----------------------------------------------------------------------------------------------------

    def _mark(self, event: DirtyEvent) -> None:
        with self._journal.lock:
            if not event.oid:  # a mode that knows the name only
                if self._brackets.hold(event.parent, event):
                    return
                known = self._journal.index.lookup(event.parent, event.name)
                if known:
                    self._dirty.add(known, event.content, event.time)
                elif self._journal.index.is_dir(event.parent):
                    self._names([Named(Op.TOUCHED, event.parent, event.name, time=event.time)])
                return
            if self._brackets.hold(event.oid, event):
                return
            if self._journal.index.place(event.oid) is not None:
                self._dirty.add(event.oid, event.content, event.time)
            elif event.parent and self._brackets.hold(event.parent, event):
                return  # its directory is being listed: it may be about to become known

    def _lost(self, event: Lost) -> None:
        if event.oid:
            with self._journal.lock:
                if self._journal.index.is_dir(event.oid):
                    self._lost_directory(event.oid, event.reason)
                elif self._journal.index.place(event.oid) is not None:
                    self._gaps.open(event.oid, event.reason)
                    self._dirty.add(event.oid, True, event.time)
            return
        self.walk(0, True)  # 0: every root; before the gap, which closes when nothing is left to walk
        self._gaps.open(-1, event.reason)

    def _lost_directory(self, oid: int, reason: str) -> None:
        """Walked at once the first time, then now and then while it stays lost; the gap is open all the while."""
        self._gaps.open(oid, reason)
        now = time.monotonic()
        if now - self._lost_at.get(oid, -LOST_AGAIN) >= LOST_AGAIN:
            if len(self._lost_at) > 10_000:
                self._lost_at = {o: at for o, at in self._lost_at.items() if now - at < LOST_AGAIN}
            self._lost_at[oid] = now
            self.walk(oid, False)
        else:
            self._walk_at.setdefault(oid, self._lost_at[oid] + LOST_AGAIN)

    def _exact(self, event: Exact) -> None:
        """A record of an in-kernel mode: bytes and order are exact, only the locator is filled in.

        Dropped if its object (or the directory of its name) was never begun: the walk will read the later state.
        """
        body = event.record.body
        if isinstance(body, Make | Link | Unlink | Rename):
            self._one_name(*as_named(event.record), event.record)
        elif isinstance(body, Range | SetAttributes | Xattr | Reflink | Changed):
            self.told.put([event])
        else:
            raise ValueError(f"a capture told a record of the kind {event.record.kind.name}")

    def reopen(self, oid: int) -> None:
        """Close a bracket and process what waited on it. The merge lock is held."""
        held = self._brackets.close(oid)
        self.told.waited(oid)
        if held.overflow:
            if self._journal.index.is_dir(oid):
                self.walk(oid, False)
            else:
                self._dirty.add(oid, True)
        elif held.events:
            # What waited is late: later events on the other name of a rename have been processed already. Followed as
            # if in order it would undo them, so its names are looked at.
            self.process(_late(e) for e in held.events)
            self._journal.late = self._journal.position()  # records of other objects have overtaken them


def _late(event: Event) -> Event:
    return event._replace(op=Op.TOUCHED) if isinstance(event, Named) and event.op is not Op.CREATED else event
