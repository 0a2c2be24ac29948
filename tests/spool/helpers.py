"""Small records and what a reader made of a log."""

from __future__ import annotations

from livelift.log.batch import Batch, records_of
from livelift.model.entry import Attributes
from livelift.model.record import BaseFile, Kind, Mark, Range, Record, Unlink
from livelift.spool.spool import Spool

JOB = "0123abcd"


def write(oid: int, data: bytes, offset: int = 0) -> Record:
    return Record(Kind.WRITE, Range(oid, 2, b"f%d" % oid, offset, len(data)), data)


def base(oid: int, data: bytes) -> Record:
    attributes = Attributes(0o100644, 0, 0, len(data), 0, 0, 0)
    return Record(Kind.BASE_FILE, BaseFile(oid, 2, b"b%d" % oid, attributes, ((0, len(data)),)), data)


def unlink(oid: int) -> Record:
    return Record(Kind.UNLINK, Unlink(oid, 2, b"f%d" % oid))


def mark(label: str = "") -> Record:
    return Record(Kind.SYNC, Mark(label))


def records(batch: Batch | None) -> list[Record]:
    assert batch is not None
    return records_of(batch.heads, b"".join(batch.blobs))


def drain(spool: Spool, after: int = 0) -> list[Record]:
    """All records behind ``after``, as a sender gets them; the LSNs must follow one another within each batch."""
    found: list[Record] = []
    while (batch := spool.next(after, 0)) is not None:
        found += records(batch)
        after = batch.last_lsn
    return found


def plain(found: list[Record]) -> list[tuple[int, Kind, bytes, bool, int]]:
    return [(r.lsn, r.kind, bytes(r.payload), r.elided, r.length) for r in found]
