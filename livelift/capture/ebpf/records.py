"""What the kernel's programs put into the ring, decoded. The layout is `struct record` of `records.bpf.h`."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from livelift.model.entry import object_id
from livelift.model.record import Kind, Range, Record
from livelift.ports import Dirty, Exact

HEAD: Final = struct.Struct("=QQQIHBB")
"""Time (CLOCK_MONOTONIC, ns), inode, offset, length of the payload, volume, operation, flags."""

LENGTH: Final = struct.Struct("=Q")
"""Follows the head of a record without payload: the length of the range that it speaks of."""

KEEP_SIZE: Final = 1
LATER: Final = 2


class Operation(IntEnum):
    """`enum op`."""

    WRITE = 1
    TRUNCATE = 2
    ALLOCATE = 3
    PUNCH = 4
    DIRTY = 5


_KINDS: Final = {
    Operation.WRITE: Kind.WRITE,
    Operation.TRUNCATE: Kind.TRUNCATE,
    Operation.ALLOCATE: Kind.ALLOCATE,
    Operation.PUNCH: Kind.PUNCH,
}


def decode(samples: Iterable[bytes], boot: int) -> list[tuple[Exact | Dirty, bool]]:
    """Events in the ring's order; True beside a mark of a change that may still be on its way.

    ``boot``: CLOCK_REALTIME minus CLOCK_MONOTONIC in ns. ValueError, struct.error: not a record of ours.
    """
    result: list[tuple[Exact | Dirty, bool]] = []
    size = HEAD.size
    for sample in samples:
        time, inode, offset, length, volume, op, flags = HEAD.unpack_from(sample)
        oid = object_id(volume, inode)
        time += boot
        if op == Operation.WRITE:
            if size + length > len(sample):
                raise ValueError(f"a record of {len(sample)} bytes with a payload of {length}")
            payload = memoryview(sample)[size : size + length]
            result.append((Exact(Record(Kind.WRITE, Range(oid, 0, b"", offset, length), payload, time)), False))
        elif op == Operation.DIRTY:
            result.append((Dirty(oid, True, 0, b"", b"", time), bool(flags & LATER)))
        else:
            (count,) = LENGTH.unpack_from(sample, size)
            body = Range(oid, 0, b"", offset, count, flags & KEEP_SIZE)
            result.append((Exact(Record(_KINDS[Operation(op)], body, b"", time)), False))
    return result
