"""What a target makes of the records, without mercy: any record that does not fit the tree is an AssertionError."""

from __future__ import annotations

import stat
from typing import Any

from livelift.model.entry import limbo
from livelift.model.record import (
    BaseFile,
    Changed,
    Kind,
    Link,
    Make,
    Range,
    Record,
    Rename,
    SetAttributes,
    Unlink,
)


class Thing:
    """An object of the replica: a directory (``names``) or a file (``version`` stands for its content)."""

    def __init__(self, oid: int, is_dir: bool) -> None:
        self.oid = oid
        self.names: dict[bytes, Thing] | None = {} if is_dir else None
        self.version = -1


class Replica:
    """It keeps a map of directories only, as the real target does; files are found by (parent, name)."""

    def __init__(self) -> None:
        self.root = Thing(0, True)
        self.directories = {0: self.root, limbo(0): Thing(limbo(0), True)}

    def names(self, parent: int) -> dict[bytes, Thing]:
        names = self.directories[parent].names
        assert names is not None
        return names

    def apply(self, record: Record) -> None:
        kind, body = record.kind, record.body
        match body:
            case Make(oid, parent, name, a):
                assert name not in self.names(parent), f"{record}: the name is taken"
                thing = self.names(parent)[name] = Thing(oid, stat.S_ISDIR(a.mode))
                if thing.names is not None:
                    assert oid not in self.directories, f"{record}: a second directory of this id"
                    self.directories[oid] = thing
            case BaseFile(oid, parent, name, a):
                assert kind in (Kind.BASE_FILE, Kind.FILE)
                there = self.names(parent).get(name)  # a file is filled anew or gives way (create_or_open)
                assert there is None or there.names is None, f"{record}: a directory is there"
                thing = self.names(parent)[name] = Thing(oid, False)
                thing.version = a.size
            case Link(oid, parent, name, old_parent, old_name):
                thing = self.names(old_parent)[old_name]
                assert thing.oid == oid and thing.names is None
                assert name not in self.names(parent), f"{record}: the name is taken"
                self.names(parent)[name] = thing
            case Unlink(oid, parent, name):
                thing = self.names(parent).pop(name)
                assert thing.oid == oid, f"{record}: {thing.oid} is there"
                assert not thing.names, f"{record}: not empty"
                assert (kind is Kind.RMDIR) == (thing.names is not None)
                if thing.names is not None:
                    del self.directories[oid]
            case Rename():
                self.rename(body)
            case Range(oid, parent, name, offset):
                thing = self.names(parent)[name]
                assert thing.oid == oid and thing.names is None
                thing.version = offset
            case Changed(oid, parent, name, mode):
                self.attributes(oid, parent, name, mode or 0)
            case SetAttributes(oid, parent, name, a):
                self.attributes(oid, parent, name, a.mode)

    def attributes(self, oid: int, parent: int, name: bytes, mode: int) -> None:
        thing = self.names(parent)[name]
        assert thing.oid == oid
        assert not mode or stat.S_ISDIR(mode) == (thing.names is not None), f"{name!r}: attributes of another type"

    def rename(self, body: Rename) -> None:
        old, new = self.names(body.parent), self.names(body.new_parent)
        thing, other = old[body.name], new.get(body.new_name)
        assert thing.oid == body.oid, f"{body}: {thing.oid} is there"
        assert (other.oid if other else 0) == body.victim, f"{body}: {other and other.oid} is in the way"
        assert thing is not other, f"{body}: onto another name of itself does nothing in POSIX"
        if body.flags & 2:
            assert other is not None
            old[body.name], new[body.new_name] = other, thing
        else:
            assert other is None or (other.names is None and thing.names is None), f"{body}: of another type"
            del old[body.name]
            new[body.new_name] = thing
        assert self.below_root(thing), f"{body}: into itself"

    def below_root(self, thing: Thing) -> bool:
        """No renaming has made a loop: the directory is still reached from the root or from limbo."""
        if thing.names is None:
            return True
        todo = [self.root, self.directories[limbo(0)]]
        while todo:
            at = todo.pop()
            if at is thing:
                return True
            todo.extend(t for t in (at.names or {}).values() if t.names is not None)
        return False

    def picture(self, thing: Thing | None = None) -> dict[bytes, Any]:
        """name -> picture of a directory, or (object id, version) of a file."""
        names = (thing or self.root).names
        assert names is not None
        return {n: (t.oid, t.version) if t.names is None else self.picture(t) for n, t in sorted(names.items())}
