"""What gives way when the log may not grow: the content of the objects that are written most.

A hot object (a database file, a log) is written over and over, and one later reading replaces all of it; so its content
is dropped first. Objects that already lost content go before all others: they have to be read again anyhow.
"""

from __future__ import annotations

from collections.abc import Sequence

from livelift.errors import StoreError
from livelift.model.record import BaseFile, Kind, Range, Record

_MOST = 65536
"""Objects counted. The counts choose what is dropped, never what is kept, so they may forget the coldest."""


class SpoolFullError(StoreError):
    """the log is full: {0}"""

    code = "spool-full"
    remedy = "the log has to be given up (collapse) and every volume compared again; give the spool more room"


_SPOOLED = frozenset({Kind.WRITE, Kind.FILE})
"""Kinds whose payload the log on disk holds."""


class Heat:
    """Bytes of content per object in the log, and which objects had content dropped since the pressure began."""

    def __init__(self) -> None:
        self._bytes: dict[int, int] = {}
        self._dropped: set[int] = set()

    def count(self, records: Sequence[Record]) -> None:
        counts = self._bytes
        for record in records:
            if record.kind in _SPOOLED and record.payload:
                oid = record.body.oid  # type: ignore[union-attr]
                counts[oid] = counts.get(oid, 0) + len(record.payload)
        if len(counts) > _MOST:
            hottest = sorted(counts, key=counts.__getitem__)[-_MOST // 2 :]
            self._bytes = {oid: counts[oid] for oid in hottest}

    def relax(self) -> None:
        """The pressure is over."""
        self._dropped.clear()
        self._bytes.clear()

    def drop(self, records: Sequence[Record], excess: int) -> tuple[list[Record], list[int]]:
        """Elide payloads of changes until ``excess`` bytes are gone: (records, objects that lost content).

        Base content needs no place in the log (it never enters it), so it is not touched.
        """
        sizes: dict[int, int] = {}
        for record in records:
            if isinstance(record.body, Range | BaseFile) and record.kind in _SPOOLED and record.payload:
                sizes[record.body.oid] = sizes.get(record.body.oid, 0) + len(record.payload)
        order = sorted(sizes, key=lambda oid: (oid in self._dropped, self._bytes.get(oid, 0) + sizes[oid]))[::-1]
        chosen: list[int] = []
        for oid in order:
            if excess <= 0:
                break
            chosen.append(oid)
            excess -= sizes[oid]
        gone = set(chosen)
        self._dropped |= gone
        return [elide(r) if r.kind in _SPOOLED and _oid(r) in gone else r for r in records], chosen


def elide(record: Record) -> Record:
    """The record without its payload; itself if it has none."""
    if not record.payload:
        return record
    return Record(record.kind, record.body, b"", record.time, record.lsn, True, len(record.payload))


def _oid(record: Record) -> int:
    return record.body.oid if isinstance(record.body, Range | BaseFile) else 0
