"""Which directory is at which path at this point of the stream of events. Pure.

ReadDirectoryChangesW speaks of paths; the log speaks of objects. The table holds what the walk has told and follows the
renames in the order of the events, so a path in an event leads to the directory that was there *then*.
"""

from __future__ import annotations

SEPARATOR = b"\\"

FORMER = 10_000
"""Paths of renamed directories that are remembered."""


def folded(path: bytes) -> bytes:
    """For comparison: NTFS compares names without case, by a table of 16-bit units close to simple upper-casing."""
    text = path.decode("utf-8", "surrogatepass")
    upper = "".join(u if len(u := c.upper()) == 1 else c for c in text)
    return upper.encode("utf-8", "surrogatepass")


def split(path: bytes) -> tuple[bytes, bytes]:
    """(directory, name); the directory of what lies in the watched one itself is empty."""
    directory, _, name = path.rpartition(SEPARATOR)
    return directory, name


class PathTable:
    """Path below the watched directory -> object id of the directory."""

    def __init__(self, root: int) -> None:
        self._objects: dict[bytes, int] = {b"": root}
        self._below: dict[bytes, set[bytes]] = {}
        self._former: dict[bytes, int] = {}

    def learn(self, path: bytes, oid: int) -> None:
        key = folded(path)
        self._objects[key] = oid
        self._former.pop(key, None)
        while key:
            parent = split(key)[0]
            siblings = self._below.setdefault(parent, set())
            if key in siblings:
                return
            siblings.add(key)
            key = parent

    def find(self, path: bytes) -> int:
        """0: not known. A path that a directory had before a rename leads to it until another one takes it: a notice
        may have been written with the old path."""
        key = folded(path)
        return self._objects.get(key) or self._former.get(key, 0)

    def moved(self, old: bytes, new: bytes) -> None:
        """A directory and all that is known below it have another path."""
        key, to = folded(old), folded(new)
        if key == to:
            return
        found = self._take(key)
        self.removed(new)
        if len(self._former) > FORMER:
            self._former.clear()
        for path, oid in found:
            self._former[path] = oid
            self.learn(to + path[len(key) :], oid)

    def removed(self, path: bytes) -> None:
        self._take(folded(path))

    def __len__(self) -> int:
        return len(self._objects)

    def _take(self, key: bytes) -> list[tuple[bytes, int]]:
        """Everything at and below the path, which is then gone from the table."""
        found: list[tuple[bytes, int]] = []
        self._below.get(split(key)[0], set()).discard(key)
        stack = [key]
        while stack:
            path = stack.pop()
            stack.extend(self._below.pop(path, ()))
            oid = self._objects.pop(path, 0)
            if oid:
                found.append((path, oid))
        return found


__all__ = ["SEPARATOR", "PathTable", "folded", "split"]
