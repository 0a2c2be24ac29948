"""Which names take part, asked by object: excluded by a pattern, another mount, or our own directory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from livelift.index.tree import TreeIndex
from livelift.model.entry import object_id
from livelift.model.job import Map
from livelift.walk.scope import ABSENT, Scope

STAND_INS: Final = 126
"""The last volume index: no job has so many file systems."""


class Exclusions:
    """``left_out``: (parent object, name) -> reason, as `livelift.source.volumes` gives it. ``roots``: the object of
    each line, in order."""

    def __init__(
        self, maps: Sequence[Map], left_out: dict[tuple[int, bytes], str], index: TreeIndex, roots: Sequence[int]
    ) -> None:
        self._left_out = left_out
        self._parents = {parent for parent, _ in left_out}
        self._index = index
        self._plain = not any(m.exclude for m in maps)
        self._scope = Scope(maps)
        self._stand_ins = {oid: object_id(STAND_INS, number) for number, oid in enumerate(roots, 1)}

    def included(self, parent: int, name: bytes, is_dir: bool = True) -> bool:
        """The merge lock need not be held: the index is asked only where patterns are in use."""
        if (parent, name) in self._left_out:
            return False
        if self._plain:
            return True
        path = self._index.path(parent)
        if path is None or not path[0].isdigit():
            return True
        relative = b"/".join([*path[1:], name])
        return self._scope.allows(int(path[0]), relative, is_dir=is_dir)

    def takes_all(self, parent: int) -> bool:
        """Nothing in this directory is left out."""
        return self._plain and parent not in self._parents

    def mount_point(self, parent: int, name: bytes) -> bool:
        """The name is a mount that does not take part, or has a line of its own: the replica gets an empty directory in
        its place."""
        reason = self._left_out.get((parent, name))
        return reason is not None and reason not in ABSENT

    def stand_in(self, oid: int) -> int:
        """The object that the log has in the place of a mount point: the root of a line is known by its own number, in
        another place, so the empty directory under its name has one that no object has."""
        return self._stand_ins.get(oid, oid)
