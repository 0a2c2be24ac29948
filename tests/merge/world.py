"""A model of a live tree under load with the real planner, follower and brackets over it.

The tree, the kernel's event queue (with its merging of equal events), the walk and the readers are modelled step by
step: between any two steps anything may happen, as with threads. What the log says is folded into a dictionary index
and replayed onto a merciless replica at once. When all is quiet the replica equals the live tree.
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import msgspec

from livelift.capture.repeats import Repeats
from livelift.merge.brackets import Brackets
from livelift.merge.names import Seen
from livelift.model.entry import Attributes, limbo, object_id, stamp_of
from livelift.model.record import BaseFile, Body, Changed, Kind, Make, Range, Record, Rename, SetAttributes, Unlink
from livelift.ports import Dirty as DirtyEvent
from livelift.ports import Event, Exact, Lost, Named, Op
from livelift.source import follower as follower_module
from livelift.source.dirty import Dirty
from livelift.source.follower import Follower
from livelift.source.gaps import Gaps
from livelift.source.live import Gone, Moved
from livelift.source.urgency import Urgency
from tests.merge.dictview import DictIndex
from tests.merge.replica import Replica

TRIES = 8
ROOT = object_id(0, 2)
Task = Iterator[None]


class Node:
    """An inode. ``version`` stands for content and for everything that ctime shows."""

    def __init__(self, oid: int, is_dir: bool, version: int) -> None:
        self.oid = oid
        self.is_dir = is_dir
        self.names: dict[bytes, Node] = {}
        self.version = version
        self.nlink = 1
        self.large = False

    def attributes(self) -> Attributes:
        mode = stat.S_IFDIR | 0o755 if self.is_dir else stat.S_IFREG | 0o644
        return Attributes(mode, 0, 0, self.version, 0, 0, self.version, self.nlink)


class FakeJournal:
    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.index = DictIndex()
        self.replica = Replica()
        self.log: list[Record] = []
        self.position: Callable[[], int] = lambda: 0
        self.late = self.reached = 0
        self.read: dict[int, int] = {}
        self.urgency = Urgency()

    def emit(self, records: list[Record], late: bool = True) -> list[int]:
        if late:
            self.late = self.position()
        for record in records:
            self.log.append(record)
            record.lsn = len(self.log)
            self.replica.apply(record)
            self.index.fold(record)
        return []

    def put(self, kind: Kind, body: Body, payload: bytes = b"", time: int = 0) -> int:
        self.emit([Record(kind, body, payload, time)])
        return len(self.log)


class FakeLive:
    """Looks through the names of the index, or through a descriptor that it has kept, as `livelift.source.live`."""

    def __init__(self, world: World, keeps: bool) -> None:
        self._world = world
        self._keeps = keeps
        self.open: dict[int, Node] = {}

    def acquire(self, oid: int) -> Node:
        world = self._world
        if oid in self.open:
            return self.open[oid]
        path = world.journal.index.path(oid)
        if path is None or path[0] != b"0":
            raise Gone(oid)
        node = world.root
        for name in path[1:]:
            below = node.names.get(name)
            if below is None or not below.is_dir:
                raise Moved(oid)
            node = below
        if node.oid != oid:
            raise Moved(oid)
        if self._keeps:
            self.open[oid] = node
        return node

    def expect(self, oid: int, parent: int, name: bytes) -> None:
        try:
            node = self.acquire(parent).names.get(name)
        except (Moved, Gone):
            return
        if self._keeps and node is not None and node.oid == oid:
            self.open[oid] = node

    def look(self, parent: int, name: bytes) -> Seen | None:
        node = self.acquire(parent).names.get(name)
        return None if node is None else Seen(node.oid, node.attributes())

    def forget(self, oid: int) -> None:
        self.open.pop(oid, None)


class Job:
    def __init__(self, node: Node) -> None:
        self.node = node
        self.oid = node.oid
        self.left = 1


class World:
    """``keeps``: the live tree's descriptors are kept open. ``reuse``: freed inode numbers are given out again.
    ``ordered``: the capture tells every change as a record, in order, instead of hinting at it."""

    def __init__(self, keeps: bool = False, reuse: bool = False, ordered: bool = False) -> None:
        self.root = Node(ROOT, True, 1)
        self._inode = 2
        self._free: list[int] = []
        self._reuse = reuse
        self._version = 1
        self.capturing = False
        self.queue: list[Event] = []
        self._repeats = Repeats(lambda: len(self.queue))
        self.now = 0.0
        self.journal = FakeJournal()
        self.index = self.journal.index
        self.live = FakeLive(self, keeps)
        self.brackets: Brackets[Event] = Brackets()
        self.dirty = Dirty(lambda: self.now, lambda: self.journal.reached)
        self.dirty.set_hurry(True)
        self.gaps = Gaps(self.journal, lambda: self.now)  # type: ignore[arg-type]
        self.stack: list[tuple[int, bool]] = []
        self.lister: Task | None = None
        self.tasks: list[Task] = []
        self.held_open: set[Node] = set()
        self.strays: set[int] = set()
        self.follower = Follower(
            self.journal,  # type: ignore[arg-type]
            self.live,  # type: ignore[arg-type]
            self.brackets,
            self.dirty,
            self.gaps,
            self.walk,
            lambda parent, name: True,
        )
        self.ordered = self.follower.told.exact = ordered
        self.told = self.passed = 0  # events of the capture so far, and those that the follower has had
        self.pictures: dict[int, dict[bytes, Any]] = {}  # of the live tree, behind so many events
        self.cuts = 0
        if ordered:
            self.journal.position = lambda: self.told

    @contextmanager
    def running(self) -> Iterator[World]:
        with patch.object(follower_module, "time", SimpleNamespace(monotonic=lambda: self.now)):
            yield self

    # -- the workload ------------------------------------------------------------------------------------------------

    def _new(self, is_dir: bool) -> Node:
        # An open descriptor, also that of a walk or a reading, keeps its inode number from being used again.
        usable = [oid for oid in self._free if oid not in self.live.open and not self.brackets.is_open(oid)]
        if self._reuse and usable:
            oid = usable[0]
            self._free.remove(oid)
        else:
            self._inode += 1
            oid = object_id(0, self._inode)
        self._version += 1
        return Node(oid, is_dir, self._version)

    def _event(self, event: Event) -> None:
        """The kernel merges an unread event into an equal one (fanotify_merge, fs/notify/fanotify/fanotify.c)."""
        if self.capturing and not self.ordered and event not in self.queue:
            self.queue.append(event)

    def _tell(self, kind: Kind, body: Body) -> None:
        """An operation of which several events tell is whole when the last one has been told: `_done`."""
        if self.capturing and self.ordered:
            self.queue.append(Exact(Record(kind, body)))
            self.told += 1

    def _done(self) -> None:
        if self.capturing and self.ordered:
            self.pictures[self.told] = self.picture()

    def create(self, parent: Node, name: bytes, is_dir: bool = False, large: bool = False) -> Node:
        assert name not in parent.names
        node = parent.names[name] = self._new(is_dir)
        node.large = large
        self._event(Named(Op.CREATED, parent.oid, name, node.oid, is_dir=is_dir))
        fresh = msgspec.structs.replace(node.attributes(), size=0)
        self._tell(Kind.MKDIR if is_dir else Kind.CREATE, Make(node.oid, parent.oid, name, fresh))
        if not is_dir:
            self._tell(Kind.WRITE, Range(node.oid, 0, b"", node.version, 0))
        self._done()
        return node

    def link(self, node: Node, parent: Node, name: bytes) -> None:
        assert name not in parent.names and not node.is_dir
        parent.names[name] = node
        node.nlink += 1
        self._event(Named(Op.CREATED, parent.oid, name, node.oid))
        self._tell(Kind.CREATE, Make(node.oid, parent.oid, name, node.attributes()))
        self._done()

    def remove(self, parent: Node, name: bytes) -> None:
        node = parent.names[name]
        assert not node.names
        del parent.names[name]
        self._event(Named(Op.REMOVED, parent.oid, name, node.oid, is_dir=node.is_dir))
        self._tell(Kind.RMDIR if node.is_dir else Kind.UNLINK, Unlink(node.oid, parent.oid, name))
        self._done()
        self._drop(node)

    def _drop(self, node: Node) -> None:
        node.nlink -= 1
        if not node.nlink and node not in self.held_open:
            self._free.append(node.oid)

    def rename(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes) -> None:
        node, victim = parent.names[name], new_parent.names.get(new_name)
        if node is victim:
            return  # two names of one file: rename(2) does nothing
        del parent.names[name]
        new_parent.names[new_name] = node
        self._event(Named(Op.RENAMED, parent.oid, name, node.oid, new_parent.oid, new_name, node.is_dir))
        over = victim.oid if victim is not None else 0
        self._tell(Kind.RENAME, Rename(node.oid, parent.oid, name, new_parent.oid, new_name, 0, over))
        self._done()
        if victim is not None:
            self._drop(victim)

    def exchange(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes) -> None:
        one, two = parent.names[name], new_parent.names[new_name]
        parent.names[name], new_parent.names[new_name] = two, one
        self._event(Named(Op.RENAMED, parent.oid, name, one.oid, new_parent.oid, new_name, one.is_dir))
        self._event(Named(Op.RENAMED, new_parent.oid, new_name, two.oid, parent.oid, name, two.is_dir))
        self._tell(Kind.RENAME, Rename(one.oid, parent.oid, name, new_parent.oid, new_name, 2, two.oid))
        self._done()

    def write(self, node: Node, parent: Node | None = None, name: bytes = b"") -> None:
        self._version += 1
        node.version = self._version
        self._event(DirtyEvent(node.oid, True, parent.oid if parent else 0, name))
        self._tell(Kind.WRITE, Range(node.oid, 0, b"", node.version, 0))
        self._done()

    def chmod(self, node: Node, parent: Node, name: bytes) -> None:
        """The kernel tells the mode with the type in it. No picture shows it; a record on another object is found."""
        self._event(DirtyEvent(node.oid, False, parent.oid, name))
        self._tell(Kind.CHANGED, Changed(node.oid, 0, b"", node.attributes().mode))
        self._done()

    # -- the capture -------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Capture first, then the walk."""
        self.capturing = True
        self.journal.put(Kind.MKDIR, Make(ROOT, 0, b"0", self.root.attributes()))
        self.walk(0, True)

    def deliver(self, count: int = 1 << 30) -> None:
        taken, self.queue = self.queue[:count], self.queue[count:]
        for event in taken:
            if isinstance(event, Named):
                self._repeats.note(event)
        out = [*taken, *self._repeats.looks()]
        self._repeats.read_ended(len(taken), not self.queue)
        self.follower.process(out)
        if self.ordered:
            self.passed = self.journal.reached = self.told - len(self.queue)
            self._check_cut()

    def _check_cut(self) -> None:
        """Where `livelift.source.cuts` would put its mark, the replica is what the live tree was there."""
        reading = self.stack or self.lister or self.tasks or len(self.brackets) or self.dirty.content() or self.strays
        if reading or len(self.gaps) or not self.follower.idle or self.journal.late > self.passed:
            return
        if self.passed in self.pictures:
            self.cuts += 1
            replica = self.journal.replica
            assert replica.picture(replica.names(0)[b"0"]) == self.pictures[self.passed]

    def overflow(self) -> None:
        self.queue.clear()
        lost = Lost(0, -1, "overflow")
        if self.ordered:
            self.queue.append(lost)
        self._event(lost)

    # -- the walk, as in livelift.source.walker ----------------------------------------------------------------------

    def walk(self, oid: int, deep: bool) -> None:
        self.stack.append((oid or ROOT, deep))

    def step_walk(self) -> bool:
        if self.lister is None:
            if not self.stack:
                return False
            self.lister = self._reconcile(*self.stack.pop())
        if next(self.lister, self) is self:
            self.lister = None
        return True

    def step_task(self, number: int) -> bool:
        if not self.tasks:
            return False
        task = self.tasks[number % len(self.tasks)]
        if next(task, self) is self:
            self.tasks.remove(task)
        return True

    def _later(self, action: Callable[[], None]) -> None:
        def run() -> Task:
            yield
            action()

        self.tasks.append(run())

    def _reconcile(self, oid: int, deep: bool) -> Task:
        if not self.index.is_dir(oid):
            return
        if not self.brackets.open(oid):
            self._later(lambda: self.stack.insert(0, (oid, deep)))  # 0.1 s later: all others come first
            return
        yield
        try:
            node = self.live.acquire(oid)
        except (Moved, Gone) as error:
            self.follower.reopen(oid)
            if isinstance(error, Moved):
                self._later(lambda: self.stack.insert(0, (oid, deep)))
            return
        job = Job(node)
        rescan = self.index.has_children(oid)
        yield
        listing = [(name, child.oid, child.is_dir) for name, child in node.names.items()]
        yield
        yield from self._chunk(job, listing, rescan, deep)
        if rescan:
            yield from self._missing(job)
        yield
        self._leave(job)

    def _chunk(self, job: Job, names: list[tuple[bytes, int, bool]], rescan: bool, deep: bool) -> Task:
        if rescan:
            changed = []
            for entry in names:
                if not self._unchanged(job, entry[0], deep):
                    changed.append(entry)
                yield
            names = changed
        others = [name for name, _, is_dir in names if is_dir]
        fresh = []
        for name, oid, is_dir in names:
            if is_dir:
                continue
            taken = oid in self.index.which([oid]) or (rescan and self.index.lookup(job.oid, name))
            if not taken and self.brackets.open(oid):
                fresh.append((name, oid))
            else:
                others.append(name)
        job.left += len(fresh)
        self.tasks += [self._read(job, name, oid) for name, oid in fresh]
        for name in others:
            yield
            node = job.node.names.get(name)
            if node is None:
                continue
            seen = Seen(node.oid, node.attributes())  # and settled under the same lock: a look must not be overtaken
            if not node.is_dir and self.brackets.is_open(seen.oid) and self.index.place(seen.oid) is None:
                self._again(job.oid, name)
            else:
                self.follower.settle(job.oid, name, seen, 0)

    def _unchanged(self, job: Job, name: bytes, deep: bool) -> bool:
        known = self.index.known(job.oid, name)
        node = job.node.names.get(name)
        if known is None or node is None or node.oid != known.oid or node.is_dir != known.is_dir:
            return False
        if known.is_dir:
            if deep:
                self.walk(known.oid, True)
        elif stamp_of(node.attributes()) != known.stamp:
            self.dirty.add(known.oid, True)
        return True

    def _missing(self, job: Job) -> Task:
        for name, oid in list(self.index.children(job.oid)):
            yield
            node = job.node.names.get(name)
            if node is not None and node.oid == oid:
                continue
            try:
                seen = self.live.look(job.oid, name)
            except (Moved, Gone):
                return
            if self.index.lookup(job.oid, name) == oid:
                self.follower.settle(job.oid, name, seen, 0)

    def _read(self, job: Job, name: bytes, oid: int) -> Task:
        yield
        node = job.node.names.get(name)
        if node is None or node.oid != oid or node.is_dir:
            self.follower.reopen(oid)
            self._again(job.oid, name)
        else:
            attributes, large = node.attributes(), node.large
            yield
            if large:
                self.journal.put(Kind.CREATE, Make(oid, job.oid, name, attributes))
            else:
                self.journal.put(Kind.BASE_FILE, BaseFile(oid, job.oid, name, attributes))
            yield
            self.follower.reopen(oid)
            if large:
                self.dirty.add(oid, True)
        self._leave(job)

    def _again(self, oid: int, name: bytes) -> None:
        def settle() -> None:
            try:
                seen = self.live.look(oid, name)
            except Moved:
                self.walk(oid, False)
                return
            except Gone:
                return
            if seen is not None and self.brackets.is_open(seen.oid) and self.index.place(seen.oid) is None:
                self._again(oid, name)
                return
            self.follower.settle(oid, name, seen, 0)
            self.dirty.add(oid, False)

        self._later(settle)

    def _leave(self, job: Job) -> None:
        job.left -= 1
        if not job.left:
            self.journal.late = self.journal.position()
            self.gaps.close(job.oid)
            self.follower.reopen(job.oid)

    # -- the reader of changes, as in livelift.source.changes --------------------------------------------------------

    def step_dirty(self) -> bool:
        """Take the next mark; its reading becomes a task."""
        taken = self.dirty.take(0)
        if taken is None:
            return False
        oid, mark = taken
        self.dirty.done(oid, 0.0)
        place = self.index.place(oid)
        if place is not None and mark.place is not None:
            self.follower.look_at(*mark.place, 0)
        if (place is None and mark.place is None) or (place is not None and place[0] < 0):
            return True
        known = self.index.of(oid)
        if self.ordered and not mark.content and known is not None and (known.is_dir or known.stamp.size >= 0):
            self.tasks.append(self._attributes(oid))
            return True
        if not self.brackets.open(oid):
            self._later(lambda: self.dirty.add(oid, mark.content, place=mark.place, tries=mark.tries))
            return True
        self.tasks.append(self._newcomer(oid, mark) if place is None else self._change(oid, place, mark))
        return True

    def _attributes(self, oid: int) -> Task:
        """A look at attributes alone, where the capture tells all content."""
        yield
        place, known = self.index.place(oid), self.index.of(oid)
        if place is not None and known is not None:
            a = Attributes(known.mode, 0, 0, max(known.stamp.size, 0), 0, 0, 0)
            self.journal.put(Kind.ATTRIBUTES, SetAttributes(oid, *place, a))

    def _newcomer(self, oid: int, mark: Any) -> Task:
        yield
        parent, name = mark.place
        try:
            node = self.live.acquire(parent).names.get(name)
        except (Moved, Gone):
            node = None
        if node is not None and (node.oid != oid or node.is_dir or node.large or node.attributes().nlink != 1):
            node = None
        attributes = node.attributes() if node is not None else None
        yield
        if self.index.place(oid) is not None:
            self.follower.look_at(parent, name, 0)
            self.dirty.add(oid, True)
        elif (
            attributes is not None
            and self.index.is_dir(parent)
            and not self.index.lookup(parent, name)
            and not self.brackets.is_open(parent)
        ):
            self.journal.put(Kind.FILE, BaseFile(oid, parent, name, attributes))
        else:
            self.follower.look_at(parent, name, 0)
        self.follower.reopen(oid)

    def _change(self, oid: int, place: tuple[int, bytes], mark: Any) -> Task:
        yield
        known = self.index.of(oid)
        try:
            if known is not None and not known.is_dir:
                node = self.live.acquire(place[0]).names.get(place[1])
                if node is None or node.oid != oid or node.is_dir:
                    raise Moved(oid)
                attributes = node.attributes()
                yield
                at = self.index.place(oid)
                if at is not None:
                    self.journal.put(Kind.WRITE, Range(oid, *at, attributes.size, 0))
                    yield
                    at = self.index.place(oid)
                    if at is not None:
                        self.journal.put(Kind.ATTRIBUTES, SetAttributes(oid, *at, attributes))
                        self.gaps.close(oid)
        except (Moved, Gone):
            self._stray(oid, place, mark)
        self.follower.reopen(oid)

    def _stray(self, oid: int, place: tuple[int, bytes], mark: Any) -> None:
        if mark.tries < TRIES:
            self._later(lambda: self.dirty.add(oid, mark.content, tries=mark.tries + 1))
            return
        if self.index.lookup(*place) == oid:
            try:
                seen = self.live.look(*place)
            except (Moved, Gone):
                self.strays.add(oid)  # its directory is in limbo
                return
            self.follower.settle(*place, seen, 0)
        elif self.index.place(oid) is not None:  # it moved meanwhile, and is still to be read
            self._later(lambda: self.dirty.add(oid, mark.content))

    # -- the end -----------------------------------------------------------------------------------------------------

    def quiesce(self) -> None:
        """The workload stands still (the fence): process everything, then purge what nobody claimed. What could not be
        read because its first name was in limbo is read then, as before a cut every object of an unknown stamp is."""
        self._settle_down()
        for name, _ in list(self.index.children(limbo(0))):
            self.follower.remove(limbo(0), name, 0)
        for oid in self.strays:
            self.dirty.add(oid, True)
        self._settle_down()

    def _settle_down(self) -> None:
        for turn in range(20_000):
            self.now += 0.3
            busy = [self.step_walk(), self.step_task(turn), self.step_task(0), self.step_dirty()]
            if self.queue or not self.follower.idle or self.stack:
                self.deliver()
            elif not any(busy):
                break
        else:
            raise AssertionError("it never comes to rest")

    def picture(self, node: Node | None = None) -> dict[bytes, Any]:
        names = sorted((node or self.root).names.items())
        return {n: self.picture(c) if c.is_dir else (c.oid, c.version) for n, c in names}

    def check(self) -> None:
        """The replica is the live tree: names, contents, and which names are one file."""
        self.quiesce()
        replica = self.journal.replica
        assert replica.picture(replica.names(0)[b"0"]) == self.picture()
        assert not replica.names(limbo(0))
        assert not len(self.brackets)
        things: dict[int, set[int]] = {}
        todo = [replica.root]
        while todo:
            for thing in (todo.pop().names or {}).values():
                things.setdefault(thing.oid, set()).add(id(thing))
                if thing.names is not None:
                    todo.append(thing)
        assert all(len(same) == 1 for same in things.values()), "a hard link became two files"


def find(world: World, path: str) -> Node:
    node = world.root
    for name in path.encode().split(b"/"):
        node = node.names[name]
    return node


__all__ = ["ROOT", "Node", "World", "find"]
