"""The tree index once more, as plain dictionaries: the oracle of `livelift.index`, and the index of the merge model."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from livelift.index.tree import Known
from livelift.model.entry import Stamp, stamp_of
from livelift.model.record import (
    BaseFile,
    Changed,
    Gap,
    Kind,
    Link,
    Make,
    Range,
    Record,
    Reflink,
    Rename,
    SetAttributes,
    Unlink,
)

NEVER = Stamp(-1, 0, 0)


class Row(NamedTuple):
    oid: int
    mode: int
    stamp: Stamp

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)


class DictIndex:
    """One row a name, as in the real one."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, bytes], Row] = {}

    # -- questions

    def lookup(self, parent: int, name: bytes) -> int:
        row = self.rows.get((parent, name))
        return row.oid if row else 0

    def known(self, parent: int, name: bytes) -> Row | None:
        return self.rows.get((parent, name))

    def places(self, oid: int) -> list[tuple[int, bytes]]:
        return sorted(place for place, row in self.rows.items() if row.oid == oid)

    def place(self, oid: int) -> tuple[int, bytes] | None:
        return next(iter(self.places(oid)), None)

    def of(self, oid: int) -> Row | None:
        place = self.place(oid)
        return self.rows[place] if place else None

    def entry(self, oid: int) -> tuple[int, Known] | None:
        place = self.place(oid)
        if place is None:
            return None
        row = self.rows[place]
        return place[0], Known(place[1], oid, row.mode, row.stamp)

    def which(self, oids: list[int]) -> set[int]:
        return set(oids) & {row.oid for row in self.rows.values()}

    def is_dir(self, oid: int) -> bool:
        row = self.of(oid)
        return row is not None and row.is_dir

    def type_of(self, oid: int) -> int:
        row = self.of(oid)
        return stat.S_IFMT(row.mode) if row else 0

    def children(self, parent: int) -> Iterator[tuple[bytes, int]]:
        for at, name in sorted(self.rows):
            if at == parent and (at, name) in self.rows:
                yield name, self.rows[at, name].oid

    def has_children(self, parent: int) -> bool:
        return any(at == parent for at, _ in self.rows)

    def path(self, oid: int) -> list[bytes] | None:
        names: list[bytes] = []
        while oid > 0:
            place = self.place(oid)
            if place is None or len(names) > len(self.rows):
                return None
            names.append(place[1])
            oid = place[0]
        if oid < 0:
            names.append(b"limbo")
        return names[::-1]

    # -- the fold

    def apply(self, records: list[Record]) -> None:
        for record in records:
            self.fold(record)

    def fold(self, record: Record) -> None:
        body, kind = record.body, record.kind
        match body:
            case Make(oid, parent, name, a):
                plain = a.is_file or a.is_dir
                self.rows[parent, name] = Row(oid, a.mode, NEVER if plain else stamp_of(a))
            case BaseFile(oid, parent, name, a):
                stamp = NEVER if record.elided or kind is Kind.BASE_BEGIN else stamp_of(a)
                if kind is not Kind.BASE_END:
                    self.rows[parent, name] = Row(oid, a.mode, stamp)
                self.stamp(oid, stamp, a.mode)
            case Link(oid, parent, name):
                row = self.of(oid)
                if row is not None:
                    self.rows[parent, name] = row
            case Unlink(_, parent, name):
                self.rows.pop((parent, name), None)
            case Rename(_, parent, name, new_parent, new_name, flags):
                row, other = self.rows.pop((parent, name), None), self.rows.get((new_parent, new_name))
                if row is None:
                    return
                self.rows[new_parent, new_name] = row
                if flags & 2 and other is not None:
                    self.rows[parent, name] = other
            case SetAttributes(oid, _, _, a):
                self.stamp(oid, stamp_of(a), a.mode)
            case Changed(oid, _, _, mode):
                row = self.of(oid)
                if row is not None and mode is not None:
                    self.stamp(oid, row.stamp, mode)
            case Gap(oid):
                if kind is Kind.GAP and oid:
                    self.stamp(oid, NEVER)
            case Range(oid):
                if record.elided:
                    self.stamp(oid, NEVER)

    def wrote(self, told: Iterable[tuple[Kind, Range | Reflink]]) -> None:
        for kind, body in told:
            self._wrote(kind, body)

    def _wrote(self, kind: Kind, body: Range | Reflink) -> None:
        row = self.of(body.oid)
        if row is None or row.stamp.size < 0:
            return
        size, end = row.stamp.size, body.offset + body.length
        if kind is Kind.TRUNCATE:
            size = body.offset
        elif kind in (Kind.COLLAPSE, Kind.INSERT):
            size += -body.length if kind is Kind.COLLAPSE else body.length
        elif kind is not Kind.PUNCH and not getattr(body, "flags", 0):
            size = max(size, end)
        self.stamp(body.oid, Stamp(size, row.stamp.mtime, 0))

    def empty(self, oid: int) -> None:
        row = self.of(oid)
        assert row is not None
        self.stamp(oid, Stamp(0, row.stamp.mtime, 0))

    def stamp(self, oid: int, stamp: Stamp, mode: int = 0) -> None:
        for place, row in self.rows.items():
            if row.oid == oid:
                self.rows[place] = Row(oid, mode or row.mode, stamp)
