"""What the log must say when names change: pure planning over the tree as the log has described it.

Captured name events are trusted as far as they agree with the index; where they do not (a stale event after a
listing, a missed one, a half rename), the planner settles the name by what is seen there *now*. So every path
converges to the live tree.

The caller holds the merge lock, folds each step's record into the index at once (later decisions see it), and carries
out the follow-ups. ``set_aside`` moves an object into limbo: it may turn up in a directory that has not been walked
yet; what nobody claimed is removed when the walk is done.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from livelift.model.entry import Attributes, limbo
from livelift.model.record import Kind, Link, Make, Rename, Unlink
from livelift.ports import Named, Op, TreeView


class Seen(NamedTuple):
    """What is behind a name right now. ``handle``: a file handle if the capture gave one."""

    oid: int
    attributes: Attributes


class Emit(NamedTuple):
    """Write this record."""

    kind: Kind
    body: Make | Link | Unlink | Rename


class ReadContent(NamedTuple):
    """The object is new to the target or may have changed: read it (file: content and attributes; else attributes)."""

    oid: int
    new: bool


class WalkDirectory(NamedTuple):
    """The directory is new to the target: list it."""

    oid: int


class Forget(NamedTuple):
    """The last name of this object is gone: nothing about it needs to be read any more."""

    oid: int


Step = Emit | ReadContent | WalkDirectory | Forget

EXCHANGE = 2


def make_kind(mode: int) -> Kind:
    """The kind of record that creates an object of this mode."""
    if stat.S_ISREG(mode):
        return Kind.CREATE
    if stat.S_ISDIR(mode):
        return Kind.MKDIR
    if stat.S_ISLNK(mode):
        return Kind.SYMLINK
    return Kind.MKNOD


def counted(tree: TreeView, oid: int, attributes: Attributes) -> Attributes:
    """With at least as many names as the log gives the object. The target writes in place only into a file that has no
    more (`livelift.replay.content.create_or_open`): if the source has fewer already, which the log does not say yet,
    the content would go to one of them and the others would keep what they had."""
    return msgspec.structs.replace(attributes, nlink=max(attributes.nlink, len(tree.places(oid))))


class Namer:
    """Plans steps over a tree view. ``map_of(parent)`` tells in which map's limbo an object is set aside."""

    def __init__(self, tree: TreeView) -> None:
        self._tree = tree

    # -- primitives --------------------------------------------------------------------------------------------------

    def remove(self, parent: int, name: bytes) -> Iterator[Step]:
        """The name is certainly gone, and with it everything below."""
        oid = self._tree.lookup(parent, name)
        if not oid:
            return
        if self._tree.is_dir(oid):
            for child, _ in list(self._tree.children(oid)):
                yield from self.remove(oid, child)
            yield Emit(Kind.RMDIR, Unlink(oid, parent, name))
            yield Forget(oid)
        else:
            last = len(self._tree.places(oid)) == 1
            yield Emit(Kind.UNLINK, Unlink(oid, parent, name))
            if last:
                yield Forget(oid)

    def set_aside(self, parent: int, name: bytes, map_index: int) -> Iterator[Step]:
        """The name is gone, the object may be elsewhere."""
        oid = self._tree.lookup(parent, name)
        if not oid:
            return
        if len(self._tree.places(oid)) > 1:  # another name keeps it
            yield Emit(Kind.UNLINK, Unlink(oid, parent, name))
            return
        place = limbo(map_index)
        waiting = b"%x" % oid
        if self._tree.lookup(place, waiting):
            yield from self.remove(place, waiting)
        yield Emit(Kind.RENAME, Rename(oid, parent, name, place, waiting))

    def settle(self, parent: int, name: bytes, seen: Seen | None, map_index: int) -> Iterator[Step]:
        """Make the log say what is seen at this name now."""
        known = self._tree.lookup(parent, name)
        if seen is None:
            if known:
                yield from self.set_aside(parent, name, map_index)
            return
        if known == seen.oid and self._tree.type_of(known) == stat.S_IFMT(seen.attributes.mode):
            return
        if known:
            yield from self.set_aside(parent, name, map_index)
        yield from self.place(parent, name, seen, map_index)

    def place(self, parent: int, name: bytes, seen: Seen, map_index: int) -> Iterator[Step]:
        """The object seen here gets this free name."""
        a = seen.attributes
        if self.inside(parent, seen.oid):
            # The log still has the new parent inside of this object: its own move has not been told yet.
            old_parent, old_name = self._tree.places(parent)[0]
            yield from self.set_aside(old_parent, old_name, map_index)
            yield WalkDirectory(old_parent)  # if it is there all the same, this claims it
        places = self._tree.places(seen.oid)
        if places and self._tree.type_of(seen.oid) != stat.S_IFMT(a.mode):  # the inode was used again for another type
            for old_parent, old_name in places:
                yield from self.remove(old_parent, old_name)
            places = []
        if not places:
            yield Emit(make_kind(a.mode), Make(seen.oid, parent, name, a))
            if a.is_dir:
                yield WalkDirectory(seen.oid)
            elif a.is_file:
                yield ReadContent(seen.oid, True)
        elif a.is_dir or a.nlink == 1:
            old_parent, old_name = places[0]
            yield Emit(Kind.RENAME, Rename(seen.oid, old_parent, old_name, parent, name))
            for old_parent, old_name in places[1:]:  # names that an only name cannot have: they are gone
                yield Emit(Kind.UNLINK, Unlink(seen.oid, old_parent, old_name))
            yield ReadContent(seen.oid, False)
            if a.is_dir:  # what happened in it meanwhile could not be looked at
                yield WalkDirectory(seen.oid)
        else:
            waiting = [p for p in places if p[0] < 0]
            if waiting:
                yield Emit(Kind.RENAME, Rename(seen.oid, *waiting[0], parent, name))
            else:
                yield Emit(Kind.LINK, Link(seen.oid, parent, name, *places[0]))
            yield ReadContent(seen.oid, False)

    def inside(self, oid: int, directory: int) -> bool:
        """True if the log has ``oid`` somewhere below ``directory``: a rename of that into this would be a loop."""
        if not self._tree.is_dir(directory):
            return False
        while oid > 0:
            places = self._tree.places(oid)
            if not places:
                return False
            oid = places[0][0]
            if oid == directory:
                return True
        return False

    # -- events ------------------------------------------------------------------------------------------------------

    def trusted(self, event: Named) -> bool:
        """True if the event agrees with the index, so `follow` needs no look at the live tree."""
        if event.op is Op.REMOVED:
            if not event.child or self._tree.lookup(event.parent, event.name) != event.child:
                return False
            # A directory that is not empty cannot have been removed: the event is older than the index, or its number
            # was used again at once (ext4 does that), or what was in it has moved and that is still to be told.
            return next(iter(self._tree.children(event.child)), None) is None
        if event.op is Op.RENAMED:
            known = self._tree.lookup(event.parent, event.name)
            if not known or event.child not in (0, known):
                return False
            # The kernel reports real renames only. If the new name has the object already, the index has been ahead of
            # this event (a look in between): then the old name is to be looked at too.
            victim = self._tree.lookup(event.new_parent, event.new_name)
            if victim == known or (victim and self._tree.is_dir(victim)):
                return False
            return event.new_parent != known and not self.inside(event.new_parent, known)
        return False

    def exchangeable(self, event: Named, other: int) -> bool:
        """True if both objects of an exchange are where it found them, and it makes no loop. ``other``: the second."""
        one, two = event.child, other
        return (
            self._tree.lookup(event.parent, event.name) == one
            and self._tree.lookup(event.new_parent, event.new_name) == two
            and not self.inside(event.new_parent, one)
            and not self.inside(event.parent, two)
        )

    def follow(self, event: Named, target_known: bool, map_index: int) -> Iterator[Step]:
        """The records of a trusted event. ``target_known``: the new parent of a rename is a directory of the index."""
        if event.op is Op.REMOVED:
            yield from self.remove(event.parent, event.name)
            return
        oid = self._tree.lookup(event.parent, event.name)
        if not target_known:
            yield from self.set_aside(event.parent, event.name, map_index)
            return
        victim = self._tree.lookup(event.new_parent, event.new_name)
        if victim and (self._tree.is_dir(victim) or self._tree.is_dir(oid)):
            yield from self.remove(event.new_parent, event.new_name)  # the victim was empty; the index may lag
            victim = 0
        gone = bool(victim) and len(self._tree.places(victim)) == 1
        yield Emit(Kind.RENAME, Rename(oid, event.parent, event.name, event.new_parent, event.new_name, 0, victim))
        if gone:
            yield Forget(victim)
        yield ReadContent(oid, False)  # a rename changes ctime

    def exchange(self, event: Named) -> Iterator[Step]:
        one = self._tree.lookup(event.parent, event.name)
        two = self._tree.lookup(event.new_parent, event.new_name)
        yield Emit(Kind.RENAME, Rename(one, event.parent, event.name, event.new_parent, event.new_name, EXCHANGE, two))
        yield ReadContent(one, False)
        yield ReadContent(two, False)


def is_exchange(first: Named, second: Named) -> bool:
    """RENAME_EXCHANGE is reported as two renames, each the reverse of the other, of two different objects (measured on
    6.18; the kernel calls fsnotify_move twice, fs/namei.c vfs_rename)."""
    return (
        first.op is Op.RENAMED is second.op
        and (first.parent, first.name) == (second.new_parent, second.new_name)
        and (first.new_parent, first.new_name) == (second.parent, second.name)
        and first.child != second.child
        and bool(first.child)
        and bool(second.child)
    )


def exchanges(events: Sequence[Named]) -> list[tuple[Named, int]]:
    """Events in order, with the second half of each exchange folded into the first: (event, the second object or 0)."""
    out: list[tuple[Named, int]] = []
    i = 0
    while i < len(events):
        if i + 1 < len(events) and is_exchange(events[i], events[i + 1]):
            out.append((events[i], events[i + 1].child))
            i += 2
        else:
            out.append((events[i], 0))
            i += 1
    return out
