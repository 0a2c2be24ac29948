"""What the kernel's programs put into the ring, decoded. The layout is `struct record` of `records.bpf.h`."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Final, NamedTuple

from livelift.model.entry import object_id
from livelift.model.record import Kind, Range, Record
from livelift.ports import Dirty, Exact

HEAD: Final = struct.Struct("=QQQIHBBQ")
"""Time (CLOCK_MONOTONIC, ns), inode, offset, length of the payload, volume, operation, flags, task of the writer."""

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
    HELD = 6
    FILL = 7
    BEGIN = 8
    END = 9


class Told(NamedTuple):
    """One record. ``event``: what it says by itself (None: it belongs to another one). ``later``: a mark of a change
    that may still be on its way. ``length``: of the range that it speaks of; ``payload``: of WRITE and FILL."""

    op: Operation
    task: int
    oid: int
    offset: int
    length: int
    payload: memoryview
    time: int
    event: Exact | Dirty | None
    later: bool = False


_OPERATIONS: Final = {int(op): op for op in Operation}  # an enum's own look-up takes longer than all the rest
_KINDS: Final = {
    Operation.WRITE: Kind.WRITE,
    Operation.TRUNCATE: Kind.TRUNCATE,
    Operation.ALLOCATE: Kind.ALLOCATE,
    Operation.PUNCH: Kind.PUNCH,
}
_WRITE, _FILL = Operation.WRITE, Operation.FILL
_NOTHING: Final = memoryview(b"")


def decode(samples: Iterable[bytes], boot: int) -> list[Told]:
    """Records in the ring's order. ``boot``: CLOCK_REALTIME minus CLOCK_MONOTONIC in ns.

    ValueError, struct.error: not a record of ours.
    """
    return [_decode(sample, boot) for sample in samples]


def _decode(sample: bytes, boot: int) -> Told:
    time, inode, offset, length, volume, number, flags, task = HEAD.unpack_from(sample)
    op = _OPERATIONS.get(number)
    if op is None:
        raise ValueError(f"a record with operation {number}")
    oid = object_id(volume, inode)
    time += boot
    if op is _WRITE or (op is _FILL and length):
        if HEAD.size + length > len(sample):
            raise ValueError(f"a record of {len(sample)} bytes with a payload of {length}")
        payload = memoryview(sample)[HEAD.size : HEAD.size + length]
        event = Exact(Record(Kind.WRITE, Range(oid, 0, b"", offset, length), payload, time)) if op is _WRITE else None
        return Told(op, task, oid, offset, length, payload, time, event)
    (count,) = LENGTH.unpack_from(sample, HEAD.size)
    told = Told(op, task, oid, offset, count, _NOTHING, time, None)
    if op is Operation.DIRTY:
        return told._replace(event=Dirty(oid, True, 0, b"", b"", time), later=bool(flags & LATER))
    if op in _KINDS:
        body = Range(oid, 0, b"", offset, count, flags & KEEP_SIZE)
        return told._replace(event=Exact(Record(_KINDS[op], body, b"", time)))
    return told
