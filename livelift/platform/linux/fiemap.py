"""FIEMAP: where on the device a file's bytes lie. Documentation/filesystems/fiemap.rst, linux/fiemap.h."""

from __future__ import annotations

import struct
from fcntl import ioctl
from typing import Final, NamedTuple

LAST: Final = 0x0001
UNKNOWN: Final = 0x0002
DELALLOC: Final = 0x0004
ENCODED: Final = 0x0008
DATA_ENCRYPTED: Final = 0x0080
NOT_ALIGNED: Final = 0x0100
DATA_INLINE: Final = 0x0200
DATA_TAIL: Final = 0x0400
UNWRITTEN: Final = 0x0800
MERGED: Final = 0x1000
SHARED: Final = 0x2000

END: Final = (1 << 63) - 1
"""The largest file offset."""

_FS_IOC_FIEMAP: Final = 0xC020660B
_FLAG_SYNC: Final = 0x1
_HEADER: Final = struct.Struct("=QQIIII")  # start, length, flags, mapped_extents, extent_count, reserved
_EXTENT: Final = struct.Struct("=QQQ16xI12x")  # logical, physical, length, flags
_COUNT: Final = 256  # extents a call: 14 KiB


class PhysicalExtent(NamedTuple):
    """Bytes ``logical..logical+length`` of the file lie at ``physical`` on the device; ``flags`` as above."""

    logical: int
    physical: int
    length: int
    flags: int


def fiemap(fd: int, start: int = 0, length: int = END, *, sync: bool = True) -> list[PhysicalExtent]:
    """All extents that touch the range, in order; holes are absent.

    ``sync`` (FIEMAP_FLAG_SYNC) writes the file's dirty pages out first: without it the map is stale for new data.
    OSError EOPNOTSUPP or ENOTTY where the file system has no such map, EBADF for an O_PATH descriptor.
    """
    found: list[PhysicalExtent] = []
    buffer = bytearray(_HEADER.size + _COUNT * _EXTENT.size)
    end = min(start + length, END)
    while start < end:
        _HEADER.pack_into(buffer, 0, start, end - start, _FLAG_SYNC if sync else 0, 0, _COUNT, 0)
        ioctl(fd, _FS_IOC_FIEMAP, buffer, True)
        mapped = _HEADER.unpack_from(buffer)[3]
        for number in range(mapped):
            found.append(PhysicalExtent(*_EXTENT.unpack_from(buffer, _HEADER.size + number * _EXTENT.size)))
        if mapped == 0 or found[-1].flags & LAST:
            break
        start = found[-1].logical + found[-1].length
    return found
