"""Attributes as the kernel's programs tell them, decoded: the records of `attributes.bpf.h`."""

from __future__ import annotations

import struct
from typing import Final

from livelift.model.record import Changed, Kind, Record, Xattr
from livelift.ports import Dirty, Exact

CHANGED: Final = struct.Struct("=IIIIqqII")
"""`struct changed`: valid, mode, uid, gid, seconds of atime and mtime, ns of both."""

MODE, UID, GID, ATIME, MTIME = 1, 2, 4, 16, 32
"""ATTR_* of linux/fs.h."""

ROOM: Final = 256
"""Bytes of an extended attribute's name, before its value."""

_SECOND: Final = 1_000_000_000


def changed(oid: int, data: memoryview, time: int) -> Exact:
    valid, mode, uid, gid, atime, mtime, atime_ns, mtime_ns = CHANGED.unpack_from(data)
    body = Changed(
        oid,
        0,
        b"",
        mode if valid & MODE else None,
        uid if valid & UID else None,
        gid if valid & GID else None,
        atime * _SECOND + atime_ns if valid & ATIME else None,
        mtime * _SECOND + mtime_ns if valid & MTIME else None,
    )
    return Exact(Record(Kind.CHANGED, body, b"", time))


def xattr(oid: int, key_length: int, length: int, gone: bool, data: memoryview, time: int) -> Exact | Dirty:
    """ValueError: not a record of ours."""
    if not 0 < key_length < ROOM or ROOM + length > len(data):
        raise ValueError(f"an extended attribute with a name of {key_length} and a value of {length} bytes")
    key = bytes(data[:key_length])
    if key.startswith(b"system.posix_acl_"):  # before Linux 6.2 in the caller's form, which the kernel may amend
        return Dirty(oid, False, 0, b"", b"", time)
    kind = Kind.XATTR_REMOVE if gone else Kind.XATTR_SET
    return Exact(Record(kind, Xattr(oid, 0, b"", key), b"" if gone else data[ROOM : ROOM + length], time))
