"""Inode flags, project id and generation: ioctl_iflags(2), ioctl_xfs_fsgetxattr(2), ext4 ``FS_IOC_GETVERSION``.

Never call these on a device node: the request would go to the device's driver. Request numbers are those of the generic
ioctl encoding (x86, arm64, riscv, s390; linux/fs.h).
"""

from __future__ import annotations

import errno
import struct
import sys
from fcntl import ioctl
from typing import Final, Literal

_GETFLAGS: Final = 0x80086601  # _IOR('f', 1, long), but the kernel moves an int
_SETFLAGS: Final = 0x40086602
_GETVERSION: Final = 0x80087601
_FSGETXATTR: Final = 0x801C581F
_FSSETXATTR: Final = 0x401C5820
_FSXATTR: Final = struct.Struct("=IIIII8x")  # xflags, extsize, nextents, projid, cowextsize

SYNC: Final = 0x08
IMMUTABLE: Final = 0x10
APPEND: Final = 0x20
NODUMP: Final = 0x40
NOATIME: Final = 0x80
NOCOW: Final = 0x800000
PROJINHERIT: Final = 0x20000000
CASEFOLD: Final = 0x40000000

SETTABLE: Final = 0x62838000 | 0x4000 | 0x0400 | 0xFF
"""What chattr(1) can set (s u c S i a d A, m, j, t, D, T, C, x, P, F). The rest (EXTENTS, INDEX, ENCRYPT, VERITY, ...)
describes how the file system stores the object and can neither be set nor compared."""

BARRIERS: Final = IMMUTABLE | APPEND
"""Flags that forbid later changes: set them last, clear them before an update."""

XFLAG_PREALLOC: Final = 0x2
"""fsxattr: XFS marks a file on which somebody called fallocate, unlike one with speculative preallocation."""

_NONE = frozenset({errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
_FIRST = struct.Struct("=I").unpack_from
_ORDER: Literal["little", "big"] = sys.byteorder


def get_flags(fd: int) -> int:
    """The raw FS_IOC_GETFLAGS bits (mask with SETTABLE before comparing); 0 where the file system has none."""
    buffer = bytearray(8)  # fcntl.ioctl is twice as fast on a writable buffer as on bytes: 0.6 instead of 1.1 µs
    try:
        ioctl(fd, _GETFLAGS, buffer)
    except OSError as error:
        if error.errno in _NONE:
            return 0
        raise
    return int(_FIRST(buffer)[0])


def set_flags(fd: int, flags: int) -> None:
    """Make the SETTABLE part equal to that of ``flags``; no call at all if it is so already.

    OSError: EPERM without CAP_LINUX_IMMUTABLE, EOPNOTSUPP for a flag this file system lacks (nothing is changed then).
    """
    now = get_flags(fd)
    wanted = now & ~SETTABLE | flags & SETTABLE
    if wanted != now:
        ioctl(fd, _SETFLAGS, wanted.to_bytes(4, _ORDER) + bytes(4))


def lift_barriers(fd: int) -> None:
    """Make it changeable again, if it is immutable or append-only."""
    flags = get_flags(fd)
    if flags & BARRIERS:
        set_flags(fd, flags & ~BARRIERS)


def get_project(fd: int) -> int:
    """Quota project id; 0 where the file system has none."""
    buffer = bytearray(28)
    try:
        ioctl(fd, _FSGETXATTR, buffer)
    except OSError as error:
        if error.errno in _NONE:
            return 0
        raise
    return int(_FIRST(buffer, 12)[0])


def set_project(fd: int, project: int) -> None:
    """Set the quota project id; no call if it is that already. OSError EOPNOTSUPP where there are no projects."""
    xflags, extsize, nextents, now, cowextsize = _fsxattr(fd)
    if now != project:
        ioctl(fd, _FSSETXATTR, _FSXATTR.pack(xflags, extsize, nextents, project, cowextsize))


def get_xflags(fd: int) -> int:
    """FS_XFLAG_* bits; 0 where the file system has none."""
    return _fsxattr(fd)[0]


def generation(fd: int) -> int:
    """The inode's generation, which tells a reused inode number from the old one; 0 where it is not told."""
    buffer = bytearray(8)
    try:
        ioctl(fd, _GETVERSION, buffer)
    except OSError as error:
        if error.errno in _NONE:
            return 0
        raise
    return int(_FIRST(buffer)[0])


def _fsxattr(fd: int) -> tuple[int, int, int, int, int]:
    try:
        xflags, extsize, nextents, project, cowextsize = _FSXATTR.unpack(ioctl(fd, _FSGETXATTR, bytes(28)))
        return xflags, extsize, nextents, project, cowextsize
    except OSError as error:
        if error.errno in _NONE:
            return 0, 0, 0, 0, 0
        raise
