"""Reparse data: what a symlink, junction or other reparse point holds (MS-FSCC 2.1.2). Pure."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from livelift.platform.windows.names import to_bytes

MOUNT_POINT: Final = 0xA0000003
SYMLINK: Final = 0xA000000C
LX_SYMLINK: Final = 0xA000001D
AF_UNIX: Final = 0x80000023
WCI: Final = 0x80000018
WOF: Final = 0x80000017
DEDUP: Final = 0x80000013
CLOUD: Final = 0x9000001A

_SURROGATE: Final = 0x20000000
_RELATIVE: Final = 0x1
LIMIT: Final = 16384
"""MAXIMUM_REPARSE_DATA_BUFFER_SIZE."""


class Reparse(NamedTuple):
    """``substitute`` is where the system goes (``\\??\\C:\\...`` if absolute), ``printed`` what a user is shown."""

    tag: int
    substitute: bytes
    printed: bytes
    relative: bool


def is_surrogate(tag: int) -> bool:
    """True if the object stands for another one (symlink, junction): it is copied as such. Other reparse points
    (deduplicated, compressed by WOF, in the cloud) are files whose content a driver delivers."""
    return bool(tag & _SURROGATE)


def is_link(tag: int) -> bool:
    """What has a target that can be told."""
    return tag in (MOUNT_POINT, SYMLINK, LX_SYMLINK)


def parse_reparse(raw: bytes) -> Reparse:
    """REPARSE_DATA_BUFFER. The names are empty for a tag that has none. ValueError: damaged."""
    if len(raw) < 8 or len(raw) > LIMIT:
        raise ValueError("reparse data has an impossible length")
    tag, length = struct.unpack_from("<IH2x", raw)
    data = raw[8 : 8 + length]
    if len(data) != length:
        raise ValueError("reparse data is cut off")
    if tag == LX_SYMLINK:
        if length < 4:
            raise ValueError("a WSL symlink without a version")
        return Reparse(tag, data[4:], data[4:], not data[4:].startswith(b"/"))
    if tag not in (MOUNT_POINT, SYMLINK):
        return Reparse(tag, b"", b"", False)
    fixed = 12 if tag == SYMLINK else 8
    if length < fixed:
        raise ValueError("a link's reparse data is too short")
    at, size, print_at, print_size = struct.unpack_from("<HHHH", data)
    relative = tag == SYMLINK and bool(struct.unpack_from("<I", data, 8)[0] & _RELATIVE)
    names = data[fixed:]
    if at + size > len(names) or print_at + print_size > len(names):
        raise ValueError("a link's names reach beyond its reparse data")
    return Reparse(tag, to_bytes(names[at : at + size]), to_bytes(names[print_at : print_at + print_size]), relative)


def link_text(reparse: Reparse) -> bytes:
    """The target as a symlink's text on a system without reparse points: slashes, the drive kept as it is."""
    text = reparse.printed or reparse.substitute.removeprefix(b"\\??\\")
    return text if reparse.tag == LX_SYMLINK else text.replace(b"\\", b"/")
