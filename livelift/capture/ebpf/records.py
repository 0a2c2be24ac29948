"""What the kernel's programs put into the ring, decoded. The layout is `struct record` of `records.bpf.h`."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Final, NamedTuple

from livelift.capture.ebpf import attributes, names
from livelift.model.entry import object_id
from livelift.model.record import Kind, Range, Record, Reflink
from livelift.ports import Dirty, Exact, Lost, Named

HEAD: Final = struct.Struct("=QQQIHBBQ")
"""Time (CLOCK_MONOTONIC, ns), inode, offset, length of the payload, volume, operation, flags, task of the writer."""

LENGTH: Final = struct.Struct("=Q")
"""Follows the head of a record without payload: the length of the range that it speaks of."""

CLONE: Final = struct.Struct("=QQQ")
"""`struct clone`: length, inode and offset of the source."""

KEEP_SIZE: Final = 1
LATER: Final = 2
MORE: Final = 4
GONE: Final = 8
ENDS: Final = 16
"""`enum flag`."""


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
    SETTING = 10
    WHOLE = 11
    PAGE = 12
    MAKE = 13
    REMOVE = 14
    MOVE = 15
    SWAP = 16
    LOOK = 17
    CHANGED = 18
    XATTR = 19
    ATTRIBUTES = 20
    ZERO = 21
    COLLAPSE = 22
    INSERT = 23
    CLONE = 24


Event = Exact | Dirty | Named | Lost


class Told(NamedTuple):
    """One record. ``oid``: the object, 0 for names. ``event``: what it says by itself (None: it belongs to another
    one). ``length``: of the range that it speaks of; ``payload``: of WRITE and FILL."""

    op: Operation
    task: int
    oid: int
    offset: int
    length: int
    payload: memoryview
    time: int
    event: Event | None
    flags: int = 0

    @property
    def later(self) -> bool:
        """A mark of a change that may still be on its way."""
        return bool(self.flags & LATER)


_OPERATIONS: Final = {int(op): op for op in Operation}  # an enum's own look-up takes longer than all the rest
_KINDS: Final = {
    Operation.WRITE: Kind.WRITE,
    Operation.TRUNCATE: Kind.TRUNCATE,
    Operation.ALLOCATE: Kind.ALLOCATE,
    Operation.PUNCH: Kind.PUNCH,
    Operation.ZERO: Kind.ZERO,
    Operation.COLLAPSE: Kind.COLLAPSE,
    Operation.INSERT: Kind.INSERT,
}
_WRITE, _FILL, _PAGE = Operation.WRITE, Operation.FILL, Operation.PAGE
_NAMES: Final = frozenset({Operation.MAKE, Operation.REMOVE, Operation.MOVE, Operation.SWAP, Operation.LOOK})
_ATTRIBUTES: Final = frozenset({Operation.CHANGED, Operation.XATTR, Operation.ATTRIBUTES})
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
    time += boot
    if op in _NAMES:
        named = _name(op, volume, inode, offset, memoryview(sample)[HEAD.size :], time)
        return Told(op, task, 0, 0, 0, _NOTHING, time, named, flags)
    oid = object_id(volume, inode)
    if op is _WRITE or op is _PAGE or (op is _FILL and length):
        if HEAD.size + length > len(sample):
            raise ValueError(f"a record of {len(sample)} bytes with a payload of {length}")
        payload = memoryview(sample)[HEAD.size : HEAD.size + length]
        event = None
        if op is not _FILL:
            kept = KEEP_SIZE if op is _PAGE else 0  # the file may have been cut since
            event = Exact(Record(Kind.WRITE, Range(oid, 0, b"", offset, length, kept), payload, time))
        return Told(op, task, oid, offset, length, payload, time, event, flags)
    if op in _ATTRIBUTES:
        attribute = _attribute(op, oid, offset, length, flags, memoryview(sample)[HEAD.size :], time)
        return Told(op, task, oid, 0, 0, _NOTHING, time, attribute, flags)
    (count,) = LENGTH.unpack_from(sample, HEAD.size)
    told = Told(op, task, oid, offset, count, _NOTHING, time, None, flags)
    if op is Operation.CLONE:
        _, source, source_offset = CLONE.unpack_from(sample, HEAD.size)
        if not source:  # on another volume
            return told._replace(event=Dirty(oid, True, 0, b"", b"", time))
        clone = Reflink(oid, 0, b"", offset, count, object_id(volume, source), 0, b"", source_offset)
        return told._replace(event=Exact(Record(Kind.REFLINK, clone, b"", time)))
    if op is Operation.DIRTY:
        return told._replace(event=Dirty(oid, True, 0, b"", b"", time))
    if op in _KINDS:
        body = Range(oid, 0, b"", offset, count, flags & KEEP_SIZE)
        return told._replace(event=Exact(Record(_KINDS[op], body, b"", time)))
    return told


def _name(op: Operation, volume: int, inode: int, directory: int, data: memoryview, time: int) -> Event:
    if op is Operation.MAKE:
        return names.made(volume, inode, directory, data, time)
    if op is Operation.REMOVE:
        return names.removed(volume, inode, directory, data, time)
    if op is Operation.LOOK:
        return names.touched(volume, directory, data, time)
    return names.moved(volume, inode, directory, data, time, op is Operation.SWAP)


def _attribute(op: Operation, oid: int, offset: int, length: int, flags: int, data: memoryview, time: int) -> Event:
    if op is Operation.CHANGED:
        return attributes.changed(oid, data, time)
    if op is Operation.XATTR:
        return attributes.xattr(oid, offset, length, bool(flags & GONE), data, time)
    return Dirty(oid, False, 0, b"", b"", time)
