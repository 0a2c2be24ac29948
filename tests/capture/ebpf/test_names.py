"""Names decoded: every kind of object, what cannot be told, and damage."""

from __future__ import annotations

import os
import stat

import pytest

from livelift.capture.ebpf.names import NAMED, ROOM
from livelift.capture.ebpf.records import HEAD, Operation, decode
from livelift.model.entry import object_id
from livelift.model.record import Kind
from livelift.ports import Lost, Named, Op

PARENT, OTHER, CHILD = object_id(3, 10), object_id(3, 11), object_id(3, 42)


def sample(
    op: Operation, mode: int, name: bytes, more: bytes = b"", inode: int = 42, victim: int = 0
) -> bytes:
    head = HEAD.pack(1000, inode, 10, 0, 3, op, 0, 77)
    fixed = NAMED.pack(11, victim, 0, mode, 1, 2, 8 << 20 | 5, 1, 9, len(name), len(more), 0)
    return head + fixed + name.ljust(ROOM, b"\0") + more.ljust(ROOM, b"\0")


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        (stat.S_IFREG, Kind.CREATE),
        (stat.S_IFDIR, Kind.MKDIR),
        (stat.S_IFLNK, Kind.SYMLINK),
        (stat.S_IFIFO, Kind.MKNOD),
        (stat.S_IFCHR, Kind.MKNOD),
    ],
)
def test_a_new_object(type_: int, kind: Kind):
    (told,) = decode([sample(Operation.MAKE, type_ | 0o640, b"name", b"text" if type_ == stat.S_IFLNK else b"")], 5)
    record = told.event.record
    a = record.body.attributes
    assert (record.kind, record.time, record.body.oid, record.body.parent, record.body.name) == (
        kind, 1005, CHILD, PARENT, b"name",
    )  # fmt: skip
    assert (a.mode, a.uid, a.gid, a.rdev, a.nlink) == (type_ | 0o640, 1, 2, os.makedev(8, 5), 1)
    assert a.target == (b"text" if type_ == stat.S_IFLNK else b"")


@pytest.mark.parametrize(("type_", "kind"), [(stat.S_IFREG, Kind.UNLINK), (stat.S_IFDIR, Kind.RMDIR)])
def test_a_name_that_goes(type_: int, kind: Kind):
    (told,) = decode([sample(Operation.REMOVE, type_, b"name")], 0)
    record = told.event.record
    assert (record.kind, record.body.oid, record.body.parent, record.body.name) == (kind, CHILD, PARENT, b"name")


@pytest.mark.parametrize(("op", "flags"), [(Operation.MOVE, 0), (Operation.SWAP, 2)])
def test_a_rename(op: Operation, flags: int):
    (told,) = decode([sample(op, stat.S_IFREG, b"old", b"new" * 80, victim=7)], 0)
    body = told.event.record.body
    assert (body.parent, body.name, body.new_parent, body.new_name) == (PARENT, b"old", OTHER, b"new" * 80)
    assert (body.oid, body.flags, body.victim) == (CHILD, flags, object_id(3, 7))


@pytest.mark.parametrize("op", [Operation.MAKE, Operation.REMOVE, Operation.LOOK])
def test_what_is_on_another_volume_is_looked_at(op: Operation):
    (told,) = decode([sample(op, stat.S_IFDIR, b"sub", inode=0)], 0)
    assert isinstance(told.event, Named)
    assert (told.event.op, told.event.parent, told.event.name) == (Op.TOUCHED, PARENT, b"sub")


@pytest.mark.parametrize("op", [Operation.MAKE, Operation.REMOVE, Operation.MOVE, Operation.LOOK])
def test_a_name_that_could_not_be_read_is_a_loss(op: Operation):
    (told,) = decode([sample(op, stat.S_IFREG, b"")], 0)
    assert isinstance(told.event, Lost) and told.event.oid in (0, PARENT)


def test_a_length_beyond_the_record_is_damage():
    raw = bytearray(sample(Operation.MAKE, stat.S_IFREG, b"name"))
    at = HEAD.size + NAMED.size - 8
    raw[at : at + 2] = (9999).to_bytes(2, "little")
    with pytest.raises(ValueError, match="name of 9999"):
        decode([bytes(raw)], 0)
