"""Attributes decoded: what a call changed and nothing else, values of extended attributes, and damage."""

from __future__ import annotations

import pytest

from livelift.capture.ebpf.attributes import ATIME, CHANGED, GID, MODE, MTIME, ROOM, UID
from livelift.capture.ebpf.records import GONE, Operation, decode
from livelift.model.record import Changed, Kind, Xattr
from livelift.ports import Dirty, Exact
from tests.capture.ebpf.test_records import OID, sample


@pytest.mark.parametrize(
    ("valid", "expected"),
    [
        (MODE, Changed(OID, 0, b"", mode=0o100640)),
        (UID | MODE, Changed(OID, 0, b"", mode=0o100640, uid=7)),
        (GID, Changed(OID, 0, b"", gid=8)),
        (ATIME | MTIME | 64, Changed(OID, 0, b"", atime=-1_999_999_999, mtime=3_000_000_004)),
        (MTIME, Changed(OID, 0, b"", mtime=3_000_000_004)),
    ],
)
def test_what_a_call_changed_and_nothing_else(valid: int, expected: Changed):
    data = CHANGED.pack(valid, 0o100640, 7, 8, -2, 3, 1, 4)
    (told,) = decode([sample(Operation.CHANGED, 0, data, 0, 0)], 5)
    assert isinstance(told.event, Exact)
    assert (told.event.record.kind, told.event.record.time, told.event.record.body) == (Kind.CHANGED, 1005, expected)


def attribute(key: bytes, value: bytes, flags: int = 0) -> bytes:
    return sample(Operation.XATTR, len(key), key.ljust(ROOM, b"\0") + value.ljust(128, b"?"), flags, len(value))


def test_an_extended_attribute_with_its_value():
    (told,) = decode([attribute(b"user.key", b"value")], 0)
    assert isinstance(told.event, Exact)
    record = told.event.record
    assert (record.kind, record.body, bytes(record.payload)) == (
        Kind.XATTR_SET, Xattr(OID, 0, b"", b"user.key"), b"value",
    )  # fmt: skip


def test_an_extended_attribute_that_goes():
    (told,) = decode([attribute(b"user.key", b"", GONE)], 0)
    assert isinstance(told.event, Exact)
    assert (told.event.record.kind, bytes(told.event.record.payload)) == (Kind.XATTR_REMOVE, b"")


def test_an_access_list_is_looked_at():
    (told,) = decode([attribute(b"system.posix_acl_access", b"list")], 0)
    assert isinstance(told.event, Dirty) and not told.event.content


@pytest.mark.parametrize(("key", "value"), [(b"", b"v"), (b"k" * 256, b"v"), (b"user.k", b"v" * 200)])
def test_lengths_that_cannot_be_are_damage(key: bytes, value: bytes):
    raw = sample(Operation.XATTR, len(key), b"x" * (ROOM + 128), 0, len(value))
    with pytest.raises(ValueError, match="extended attribute"):
        decode([raw], 0)
