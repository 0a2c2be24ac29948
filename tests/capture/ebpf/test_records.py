"""Records decoded: every operation, and damage refused."""

from __future__ import annotations

import struct

import pytest

from livelift.capture.ebpf.records import HEAD, KEEP_SIZE, LATER, LENGTH, Operation, decode
from livelift.model.entry import object_id
from livelift.model.record import Kind
from livelift.ports import Dirty

OID = object_id(3, 42)


def sample(op: int, offset: int = 0, data: bytes = b"", flags: int = 0, length: int | None = None) -> bytes:
    return HEAD.pack(1000, 42, offset, len(data) if length is None else length, 3, op, flags, 0) + data


def test_content_with_the_room_that_follows_it():
    ((event, later),) = decode([sample(Operation.WRITE, 7, b"bytes", length=3)], 5)
    assert (event.record.kind, event.record.body.oid, event.record.body.offset) == (Kind.WRITE, OID, 7)
    assert bytes(event.record.payload) == b"byt" and event.record.body.length == 3
    assert event.record.time == 1005 and not later


@pytest.mark.parametrize(
    ("op", "kind", "flags"),
    [
        (Operation.TRUNCATE, Kind.TRUNCATE, 0),
        (Operation.ALLOCATE, Kind.ALLOCATE, KEEP_SIZE),
        (Operation.ALLOCATE, Kind.ALLOCATE, 0),
        (Operation.PUNCH, Kind.PUNCH, 0),
    ],
)
def test_ranges(op: Operation, kind: Kind, flags: int):
    ((event, _),) = decode([sample(op, 100, LENGTH.pack(9), flags, 0)], 0)
    body = event.record.body
    assert (event.record.kind, body.offset, body.length, body.flags) == (kind, 100, 9, flags)


def test_marks():
    for flags, expected in ((0, False), (LATER, True)):
        assert decode([sample(Operation.DIRTY, 0, LENGTH.pack(9), flags, 0)], 1) == [
            (Dirty(OID, True, 0, b"", b"", 1001), expected)
        ]


@pytest.mark.parametrize(
    "damaged",
    [b"", b"short", sample(Operation.WRITE, 0, b"abc", length=4), sample(99, 0, LENGTH.pack(0)), sample(2, 5)],
)
def test_damage_is_an_error_not_an_event(damaged: bytes):
    with pytest.raises((ValueError, struct.error, KeyError)):
        decode([damaged], 0)
