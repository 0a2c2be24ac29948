"""Records decoded: every operation, and damage refused."""

from __future__ import annotations

import struct

import pytest

from livelift.capture.ebpf.records import HEAD, KEEP_SIZE, LATER, LENGTH, Operation, decode
from livelift.model.entry import object_id
from livelift.model.record import Kind
from livelift.ports import Dirty, Exact

OID = object_id(3, 42)


def sample(op: int, offset: int = 0, data: bytes = b"", flags: int = 0, length: int | None = None) -> bytes:
    return HEAD.pack(1000, 42, offset, len(data) if length is None else length, 3, op, flags, 77) + data


def test_content_with_the_room_that_follows_it():
    (told,) = decode([sample(Operation.WRITE, 7, b"bytes", length=3)], 5)
    record = told.event.record
    assert (record.kind, record.body.oid, record.body.offset, record.body.length) == (Kind.WRITE, OID, 7, 3)
    assert bytes(record.payload) == bytes(told.payload) == b"byt"
    assert (record.time, told.task, told.later) == (1005, 77, False)


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
    (told,) = decode([sample(op, 100, LENGTH.pack(9), flags, 0)], 0)
    body = told.event.record.body
    assert (told.event.record.kind, body.offset, body.length, body.flags) == (kind, 100, 9, flags)


@pytest.mark.parametrize(("flags", "later"), [(0, False), (LATER, True)])
def test_marks(flags: int, later: bool):
    (told,) = decode([sample(Operation.DIRTY, 0, LENGTH.pack(9), flags, 0)], 1)
    assert (told.event, told.later) == (Dirty(OID, True, 0, b"", b"", 1001), later)


@pytest.mark.parametrize(
    "op", [Operation.HELD, Operation.FILL, Operation.BEGIN, Operation.END, Operation.SETTING, Operation.WHOLE]
)
def test_what_belongs_to_another_record_is_no_event(op: Operation):
    (told,) = decode([sample(op, 5, LENGTH.pack(9), 0, 0)], 0)
    assert (told.op, told.event, told.offset, told.length, bytes(told.payload)) == (op, None, 5, 9, b"")


def test_a_fill_brings_its_bytes():
    (told,) = decode([sample(Operation.FILL, 5, b"bytes")], 0)
    assert (told.event, bytes(told.payload)) == (None, b"bytes")


def test_a_page_of_a_mapped_file_does_not_make_it_longer():
    (told,) = decode([sample(Operation.PAGE, 4096, b"page")], 0)
    assert isinstance(told.event, Exact)
    assert (told.event.record.kind, told.event.record.body.flags) == (Kind.WRITE, KEEP_SIZE)


def test_attributes_that_are_not_told_are_looked_at():
    (told,) = decode([sample(Operation.ATTRIBUTES, 0, LENGTH.pack(0), 0, 0)], 1)
    assert told.event == Dirty(OID, False, 0, b"", b"", 1001)


@pytest.mark.parametrize(
    "damaged",
    [b"", b"short", sample(Operation.WRITE, 0, b"abc", length=4), sample(99, 0, LENGTH.pack(0)), sample(2, 5)],
)
def test_damage_is_an_error_not_an_event(damaged: bytes):
    with pytest.raises((ValueError, struct.error)):
        decode([damaged], 0)
