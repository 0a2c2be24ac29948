"""Names and attributes as the kernel's programs tell them, decoded: `struct named` of `names.bpf.h` and what is beside
it in `attributes.bpf.h`."""

from __future__ import annotations

import os
import stat
import struct
from typing import Final

from livelift.model.entry import Attributes, object_id
from livelift.model.record import Kind, Make, Record, Rename, Unlink
from livelift.ports import Exact, Lost, Named, Op

NAMED: Final = struct.Struct("=QQQIIIIIIHHI")
"""New directory's inode, victim's inode, size, mode, uid, gid, rdev, nlink, generation, lengths of both names."""

ROOM: Final = 256
"""Bytes of the first name's place, whatever its length."""

EXCHANGE: Final = 2

_KINDS: Final = {stat.S_IFREG: Kind.CREATE, stat.S_IFDIR: Kind.MKDIR, stat.S_IFLNK: Kind.SYMLINK}


def made(volume: int, inode: int, directory: int, data: memoryview, time: int) -> Exact | Named | Lost:
    """An object got a name. A further name of a known one has the same form: `Attributes.nlink` tells, and whoever
    knows the object. A file with a size was written before it had a name (O_TMPFILE, linkat)."""
    _, _, size, mode, uid, gid, rdev, nlink, generation, length, more, _ = NAMED.unpack_from(data)
    parent = object_id(volume, directory)
    name = _text(data, 0, length)
    if not name:
        return Lost(parent, volume, "a name that could not be read", time)
    if not inode:
        return Named(Op.TOUCHED, parent, name, is_dir=stat.S_ISDIR(mode), time=time)
    device = os.makedev(rdev >> 20, rdev & 0xFFFFF)  # linux/kdev_t.h
    target = _text(data, ROOM, more)
    attributes = Attributes(mode, uid, gid, size, time, time, time, nlink, device, target=target)
    oid = object_id(volume, inode)
    kind = _KINDS.get(stat.S_IFMT(mode), Kind.MKNOD)
    return Exact(Record(kind, Make(oid, parent, name, attributes, generation), b"", time))


def removed(volume: int, inode: int, directory: int, data: memoryview, time: int) -> Exact | Named | Lost:
    _, _, _, mode, _, _, _, _, _, length, _, _ = NAMED.unpack_from(data)
    parent = object_id(volume, directory)
    name = _text(data, 0, length)
    if not name:
        return Lost(parent, volume, "a name that could not be read", time)
    if not inode:
        return Named(Op.TOUCHED, parent, name, is_dir=stat.S_ISDIR(mode), time=time)
    kind = Kind.RMDIR if stat.S_ISDIR(mode) else Kind.UNLINK
    return Exact(Record(kind, Unlink(object_id(volume, inode), parent, name), b"", time))


def moved(volume: int, inode: int, directory: int, data: memoryview, time: int, exchange: bool) -> Exact | Lost:
    other, victim, _, _, _, _, _, _, _, length, more, _ = NAMED.unpack_from(data)
    parent, new_parent = object_id(volume, directory), object_id(volume, other)
    name, new_name = _text(data, 0, length), _text(data, ROOM, more)
    if not name or not new_name or not inode:
        return Lost(0, volume, "a rename that could not be read", time)
    over = object_id(volume, victim) if victim else 0
    body = Rename(object_id(volume, inode), parent, name, new_parent, new_name, EXCHANGE if exchange else 0, over)
    return Exact(Record(Kind.RENAME, body, b"", time))


def touched(volume: int, directory: int, data: memoryview, time: int) -> Named | Lost:
    parent = object_id(volume, directory)
    name = _text(data, 0, NAMED.unpack_from(data)[9])
    return Named(Op.TOUCHED, parent, name, time=time) if name else Lost(parent, volume, "an unreadable name", time)


def _text(data: memoryview, at: int, length: int) -> bytes:
    start = NAMED.size + at
    if start + length > len(data):
        raise ValueError(f"a record of {len(data)} bytes with a name of {length}")
    return bytes(data[start : start + length])
