"""System calls that the standard library lacks, for generators and comparers.

Deliberately not `livelift.platform`: a judge that shares code with the accused would share its mistakes.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4  # renameat2(2)

FALLOC_KEEP_SIZE, FALLOC_PUNCH, FALLOC_COLLAPSE, FALLOC_ZERO, FALLOC_INSERT = 1, 2, 8, 16, 32  # fallocate(2)

FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602  # ioctl_iflags(2)
FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820  # ioctl_xfs_fsgetxattr(2)
FICLONERANGE = 0x4020940D  # ioctl_ficlonerange(2)

FLAG_SYNC, FLAG_IMMUTABLE, FLAG_APPEND, FLAG_NODUMP, FLAG_NOATIME = 0x8, 0x10, 0x20, 0x40, 0x80
FLAGS_OF_USERS = 0xFF | 0x4000 | 0x8000 | 0x10000 | 0x20000 | 0x800000 | 0x02000000 | 0x20000000 | 0x40000000
"""The flags that a user sets and `chattr` shows; the rest (extents, indexed, inline) is the file system's affair."""


def _check(result: int, path: bytes = b"") -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def renameat2(old: bytes, new: bytes, flags: int) -> None:
    """renameat2(2), glibc 2.28. Raises OSError (EINVAL where the file system does not know the flag)."""
    _check(_libc.renameat2(-100, old, -100, new, flags), old)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2) with its modes; bytes. Raises OSError (EOPNOTSUPP, EINVAL where there is no such mode)."""
    _check(_libc.fallocate(fd, mode, offset, length))


def clone_range(target: int, offset: int, source: int, source_offset: int, length: int) -> None:
    """Share extents (FICLONERANGE). Raises OSError EOPNOTSUPP or EXDEV where there are no reflinks."""
    fcntl.ioctl(target, FICLONERANGE, struct.pack("=qQQQ", source, source_offset, length, offset))


def get_flags(fd: int) -> int:
    """Inode flags as `lsattr` shows them (FS_IOC_GETFLAGS; the kernel transfers an int whatever the number says)."""
    buffer = array.array("i", [0])
    fcntl.ioctl(fd, FS_IOC_GETFLAGS, buffer)
    return buffer[0] & 0xFFFFFFFF


def set_flags(fd: int, flags: int) -> None:
    fcntl.ioctl(fd, FS_IOC_SETFLAGS, array.array("I", [flags]))


def change_flags(path: bytes, *, add: int = 0, drop: int = 0) -> None:
    """`chattr` on a regular file or directory, without following a symlink."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        set_flags(fd, get_flags(fd) & ~drop | add)
    finally:
        os.close(fd)


def get_project(fd: int) -> int:
    """The quota project id. Raises OSError ENOTTY where the file system has none."""
    return int(struct.unpack_from("=IIIII", fcntl.ioctl(fd, FS_IOC_FSGETXATTR, bytes(28)))[3])


# acl(5), linux/posix_acl_xattr.h: version 2, then (tag, permissions, id) little-endian
ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK, ACL_OTHER = 1, 2, 4, 8, 0x10, 0x20


def acl(mode: int, *, user: int, permissions: int) -> bytes:
    """The value of system.posix_acl_access or _default: the three classes of ``mode``, one named user, a full mask."""
    none = 0xFFFFFFFF
    entries = [
        (ACL_USER_OBJ, mode >> 6 & 7, none),
        (ACL_USER, permissions, user),
        (ACL_GROUP_OBJ, mode >> 3 & 7, none),
        (ACL_MASK, 7, none),
        (ACL_OTHER, mode & 7, none),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def capability(bits: int) -> bytes:
    """The value of security.capability, revision 2, effective, not inheritable (linux/capability.h vfs_cap_data)."""
    return struct.pack("<IIIII", 0x02000001, bits & 0xFFFFFFFF, 0, bits >> 32, 0)
