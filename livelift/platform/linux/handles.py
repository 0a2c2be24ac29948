"""File handles: an address of an inode that survives renames. name_to_handle_at(2), open_by_handle_at(2).

A handle is kept as 4 bytes of handle_type (little endian) and then ``f_handle``; that is what fanotify delivers too.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final

from livelift.platform.linux.libc import INT, failed, function

EMPTY_PATH: Final = 0x1000  # AT_EMPTY_PATH: the object of dir_fd itself, name b""
_MAX: Final = 128  # MAX_HANDLE_SZ
_HEADER: Final = struct.Struct("=Ii")  # handle_bytes, handle_type

INO32_GEN: Final = 0x01  # ext2/3/4, XFS with 32-bit inodes; tmpfs uses the number for a layout of its own
INO32_GEN_PARENT: Final = 0x02
INO64_GEN: Final = 0x81  # XFS
INO64_GEN_PARENT: Final = 0x82
BTRFS: Final = (0x4D, 0x4E, 0x4F)  # without parent, with parent, with parent of another subvolume

_name_to_handle_at = function("name_to_handle_at", INT, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, INT)
_open_by_handle_at = function("open_by_handle_at", INT, ctypes.c_void_p, INT)


def handle_of(dir_fd: int, name: bytes, flags: int = 0) -> tuple[bytes, int]:
    """(handle, mount id as in /proc/self/mountinfo) of ``name``; symlinks are not followed.

    OSError EOPNOTSUPP: the file system has no handles (overlay without index, some FUSE).
    """
    buffer = ctypes.create_string_buffer(_HEADER.size + _MAX)
    _HEADER.pack_into(buffer, 0, _MAX, 0)
    mount = ctypes.c_int()
    if _name_to_handle_at(dir_fd, name, buffer, ctypes.byref(mount), flags) < 0:
        raise failed(name)
    size, kind = _HEADER.unpack_from(buffer)
    return pack_handle(kind, buffer.raw[_HEADER.size : _HEADER.size + size]), mount.value


def pack_handle(handle_type: int, f_handle: bytes) -> bytes:
    """The handle as this project keeps it."""
    return handle_type.to_bytes(4, "little", signed=True) + f_handle


def open_handle(mount_fd: int, handle: bytes, flags: int) -> int:
    """Open the object. Needs CAP_DAC_READ_SEARCH. ``mount_fd``: any descriptor on that file system (not O_PATH).

    OSError ESTALE: the object is gone. With O_PATH a symlink opens too; without it a symlink is ELOOP.
    """
    kind, body = int.from_bytes(handle[:4], "little", signed=True), handle[4:]
    buffer = ctypes.create_string_buffer(_HEADER.pack(len(body), kind) + body, _HEADER.size + len(body))
    fd = int(_open_by_handle_at(mount_fd, buffer, flags | os.O_CLOEXEC))
    if fd < 0:
        raise failed()
    return fd


def inode_of_handle(handle: bytes) -> tuple[int, int] | None:
    """(inode, generation) inside a handle of ext2/3/4, XFS, btrfs or tmpfs; None for a layout that is not known.

    Layouts: include/linux/exportfs.h (``enum fid_type``, ``struct fid``), fs/xfs/xfs_export.h, fs/btrfs/export.h.
    """
    kind, size = int.from_bytes(handle[:4], "little", signed=True), len(handle) - 4
    if (kind == INO32_GEN and size == 8) or (kind == INO32_GEN_PARENT and size in (12, 16)):
        inode, generation = struct.unpack_from("=II", handle, 4)
    elif kind == INO32_GEN and size == 12:  # mm/shmem.c: generation, inode low, inode high
        generation, low, high = struct.unpack_from("=III", handle, 4)
        inode = high << 32 | low
    elif kind in (INO64_GEN, INO64_GEN_PARENT) and size >= 12:
        inode, generation = struct.unpack_from("=QI", handle, 4)
    elif kind in BTRFS and size >= 20:
        inode, _subvolume, generation = struct.unpack_from("=QQI", handle, 4)
    else:
        return None
    return inode, generation
