"""A little tree in memory that does random things, writes the log of them, and knows what the replica must be."""

from __future__ import annotations

import os
import random
import stat

from livelift.model.record import Kind
from livelift.platform.linux.files import RENAME_EXCHANGE
from tests.replay.logbook import ROOT, Logbook, directory

NAMES = [b"a", b"b", b"c"]  # few, so that names are reused all the time


class World:
    """Objects are reused by number like inodes are: the lowest free one first."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.log = Logbook()
        self.dirs: dict[int, dict[bytes, int]] = {ROOT: {}}
        self.files: dict[int, bytearray] = {}
        self.links: dict[int, bytes] = {}

    def step(self) -> None:
        rng = self.rng
        getattr(self, rng.choice(self.MOVES))()

    MOVES = ("make", "make", "make", "remove", "rename", "rename", "exchange", "link", "write", "write", "write", "cut")

    def _new(self) -> int:
        oid = 100
        while oid in self.files or oid in self.dirs or oid in self.links:
            oid += 1
        return oid

    def _some(self, kinds: str) -> tuple[int, bytes, int] | None:
        found = [
            (parent, name, oid)
            for parent, names in self.dirs.items()
            for name, oid in names.items()
            if ("d" in kinds and oid in self.dirs)
            or ("f" in kinds and oid in self.files)
            or ("l" in kinds and oid in self.links)
        ]
        return self.rng.choice(found) if found else None

    def _free(self) -> tuple[int, bytes] | None:
        found = [(parent, name) for parent, names in self.dirs.items() for name in NAMES if name not in names]
        return self.rng.choice(found) if found else None

    def make(self) -> None:
        place = self._free()
        if place is None:
            return
        parent, name = place
        oid = self._new()
        what = self.rng.choice("ddffbl")
        if what == "d":
            self.dirs[oid] = {}
            self.log.mkdir(oid, parent, name)
            self.log.attributes(oid, parent, name, directory(0o700 | self.rng.randrange(64)))
        elif what == "l":
            self.links[oid] = b"/etc/%d" % self.rng.randrange(9)
            self.log.symlink(oid, parent, name, self.links[oid])
        elif what == "f":
            self.files[oid] = bytearray()
            self.log.create(oid, parent, name)
        else:
            self.files[oid] = bytearray(self.rng.randbytes(self.rng.randrange(40)))
            self.log.base(oid, parent, name, bytes(self.files[oid]))
        self.dirs[parent][name] = oid

    def remove(self) -> None:
        found = self._some("dfl")
        if found is None or self.dirs.get(found[2]):
            return
        parent, name, oid = found
        del self.dirs[parent][name]
        if oid in self.dirs:
            del self.dirs[oid]
            self.log.rmdir(oid, parent, name)
        else:
            self.log.unlink(oid, parent, name)
            self._forget(oid)

    def _forget(self, oid: int) -> None:
        if not any(oid in names.values() for names in self.dirs.values()):
            self.files.pop(oid, None)
            self.links.pop(oid, None)

    def _below(self, oid: int) -> set[int]:
        found = {oid}
        for child in self.dirs.get(oid, {}).values():
            if child in self.dirs:
                found |= self._below(child)
        return found

    def rename(self) -> None:
        found = self._some("dffl")
        if found is None:
            return
        parent, name, oid = found
        target = self.rng.choice([d for d in self.dirs if oid not in self.dirs or d not in self._below(oid)])
        new = self.rng.choice(NAMES)
        victim = self.dirs[target].get(new, 0)
        if victim == oid or (victim and (victim in self.dirs) != (oid in self.dirs)) or self.dirs.get(victim):
            return
        del self.dirs[parent][name]
        self.dirs[target][new] = oid
        self.dirs.pop(victim, None)
        self._forget(victim)
        self.log.rename(oid, parent, name, target, new, victim=victim)

    def exchange(self) -> None:
        one, two = self._some("df"), self._some("df")
        if one is None or two is None or one[2] == two[2]:
            return
        if two[0] in self._below(one[2]) or one[0] in self._below(two[2]):
            return
        self.dirs[one[0]][one[1]] = two[2]
        self.dirs[two[0]][two[1]] = one[2]
        self.log.rename(one[2], one[0], one[1], two[0], two[1], RENAME_EXCHANGE, self.rng.choice([two[2], 0]))

    def link(self) -> None:
        found, place = self._some("f"), self._free()
        if found is None or place is None:
            return
        self.dirs[place[0]][place[1]] = found[2]
        self.log.link(found[2], found[0], found[1], *place)

    def write(self) -> None:
        found = self._some("f")
        if found is None:
            return
        parent, name, oid = found
        offset, data = self.rng.randrange(30), self.rng.randbytes(1 + self.rng.randrange(20))
        content = self.files[oid]
        if len(content) < offset:
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(data)] = data
        self.log.write(oid, parent, name, offset, data)

    def cut(self) -> None:
        found = self._some("f")
        if found is None:
            return
        parent, name, oid = found
        size = self.rng.randrange(50)
        content = self.files[oid]
        self.files[oid] = content[:size] + bytes(max(0, size - len(content)))
        self.log.range(Kind.TRUNCATE, oid, parent, name, size)

    def read_again(self, oids: set[int]) -> None:
        """What the source does about conflicts on files."""
        for parent, names in self.dirs.items():
            for name, oid in names.items():
                if oid in oids and oid in self.files:
                    nlink = sum(other == oid for level in self.dirs.values() for other in level.values())
                    self.log.base(oid, parent, name, bytes(self.files[oid]), nlink=nlink)

    def paths(self) -> dict[bytes, int]:
        found: dict[bytes, int] = {}

        def visit(oid: int, path: bytes) -> None:
            for name, child in self.dirs[oid].items():
                here = os.path.join(path, name)
                found[here] = child
                if child in self.dirs:
                    visit(child, here)

        visit(ROOT, b"")
        return found

    def differences(self, top: bytes) -> list[str]:
        """What is not on disk as it is here: names, types, contents, which names are one file."""
        paths = self.paths()
        wrong = []
        inodes: dict[int, int] = {}
        seen: set[bytes] = set()
        for base, dirs, files in os.walk(top):
            if base == top:
                dirs.remove(b".livelift")
            for name in dirs + files:
                full = os.path.join(base, name)
                path = os.path.relpath(full, top)
                seen.add(path)
                oid = paths.get(path, 0)
                s = os.lstat(full)
                if inodes.setdefault(s.st_ino, oid) != oid:
                    wrong.append(f"{path!r}: one file for two")
                if stat.S_ISLNK(s.st_mode):
                    same = self.links.get(oid) == os.readlink(full)
                elif stat.S_ISDIR(s.st_mode):
                    same = oid in self.dirs
                else:
                    with open(full, "rb") as file:
                        same = self.files.get(oid) == file.read()
                if not same:
                    wrong.append(f"{path!r} is not object {oid}")
        wrong.extend(f"{path!r} is missing" for path in paths.keys() - seen)
        if len(set(inodes.values())) != len(inodes):
            wrong.append("two files for one")
        return wrong
