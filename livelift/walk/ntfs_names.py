"""Under which extended attributes the things travel that NTFS has and Linux file systems have not. Pure.

The names and byte orders are those of ntfs-3g(8), so a target volume of NTFS, mounted by ntfs-3g, takes them as they
are ("system." and, for streams, "user." with ``streams_interface=xattr``). On every other file system the same values
are kept under "trusted.": the kernel lets "user." attributes be set on files and directories only, not on symlinks
(xattr(7)), and "system." on none that the file system does not know. Streams are "user." on both.

| attribute | value |
|---|---|
| ntfs_attrib_be | FILE_ATTRIBUTE_* bits, 32 bits, big-endian |
| ntfs_crtime_be | creation, FILETIME, 64 bits, big-endian |
| ntfs_acl | self-relative security descriptor |
| ntfs_reparse_data | REPARSE_DATA_BUFFER |
| ntfs_dos_name | short name, UTF-8 |
| ntfs_object_id | 64 bytes of FILE_OBJECTID_BUFFER |
| ntfs_ea | FILE_FULL_EA_INFORMATION list |
| user.NAME | the content of the alternate stream NAME |
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from livelift.platform.windows.information import (
    ARCHIVE,
    COMPRESSED,
    DIRECTORY,
    ENCRYPTED,
    HIDDEN,
    READONLY,
    REPARSE,
    SPARSE,
    SYSTEM,
    ExtendedAttribute,
    Information,
)

NTFS: Final = b"system."
OTHER: Final = b"trusted."

CARRIED: Final = READONLY | HIDDEN | SYSTEM | ARCHIVE | SPARSE | COMPRESSED | ENCRYPTED | REPARSE | DIRECTORY | 0x2100
"""Bits that are told; 0x100 TEMPORARY, 0x2000 NOT_CONTENT_INDEXED. OFFLINE, PINNED and the like say where the content
is at the moment, not what the object is."""

STREAM_LIMIT: Final = 65536
"""XATTR_SIZE_MAX (linux/limits.h). A larger stream cannot travel as an attribute: that is a problem, told by path."""
NAME_LIMIT: Final = 255
"""XATTR_NAME_MAX, with "user."."""

FORM: Final = SPARSE | COMPRESSED
"""Of files these bits cannot be set under ntfs-3g; its files get them by how they are made."""
READ_BACK: Final = (b"attrib_be", b"crtime_be", b"acl", b"reparse_data", b"dos_name", b"ea")

Pairs = tuple[tuple[bytes, bytes], ...]


class Extras(NamedTuple):
    """What was read of one object beside `Information`."""

    security: bytes = b""
    reparse: bytes = b""
    short: bytes = b""
    object_id: bytes = b""
    eas: tuple[ExtendedAttribute, ...] = ()
    streams: tuple[tuple[bytes, bytes], ...] = ()


def to_xattrs(found: Information, extras: Extras, prefix: bytes = OTHER) -> Pairs:
    """Sorted (name, value) pairs, as `Attributes.xattrs` wants them."""
    bits = settable(found.attributes) if prefix == NTFS else found.attributes & CARRIED
    pairs = [
        (prefix + b"ntfs_attrib_be", struct.pack(">I", bits)),
        (prefix + b"ntfs_crtime_be", struct.pack(">q", found.created)),
    ]
    for name, value in (
        (b"ntfs_acl", extras.security),
        (b"ntfs_reparse_data", extras.reparse),
        (b"ntfs_dos_name", extras.short),
        (b"ntfs_object_id", extras.object_id),
        (b"ntfs_ea", pack_eas(extras.eas)),
    ):
        if value:
            pairs.append((prefix + name, value))
    pairs += [(b"user." + name, content) for name, content in extras.streams]
    return tuple(sorted(pairs))


def settable(attributes: int) -> int:
    """What of an object's bits an ntfs-3g volume takes, so that both sides can be compared."""
    return attributes & CARRIED & (-1 if attributes & DIRECTORY else ~FORM)


def pack_eas(eas: tuple[ExtendedAttribute, ...]) -> bytes:
    """A FILE_FULL_EA_INFORMATION list (MS-FSCC 2.4.15): elements on 4-byte boundaries, the last one has no link."""
    packed = b""
    for number, ea in enumerate(eas):
        body = struct.pack("<BBH", ea.flags, len(ea.name), len(ea.value)) + ea.name + b"\0" + ea.value
        if number == len(eas) - 1:
            return packed + struct.pack("<I", 0) + body
        body = body.ljust(-(-(len(body) + 4) // 4) * 4 - 4, b"\0")
        packed += struct.pack("<I", len(body) + 4) + body
    return packed


def too_large(name: bytes, size: int) -> str:
    """Why a stream cannot travel, or an empty string."""
    if size > STREAM_LIMIT:
        return f"alternate stream of {size} bytes; {STREAM_LIMIT} fit into an extended attribute"
    if len(name) + 5 > NAME_LIMIT:
        return f"the stream's name is longer than {NAME_LIMIT - 5} bytes"
    return ""
