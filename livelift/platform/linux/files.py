"""What the standard library cannot do with a file: holes, preallocation, confined opening, cloning, exchange."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from fcntl import ioctl
from typing import Final, NamedTuple

from livelift.model.extent import Extent
from livelift.platform.linux import fiemap as fm
from livelift.platform.linux import inode_flags
from livelift.platform.linux.libc import INT, LONG, SYSCALLS, failed, function

KEEP_SIZE: Final = 0x01
PUNCH_HOLE: Final = 0x02  # only together with KEEP_SIZE
COLLAPSE_RANGE: Final = 0x08
ZERO_RANGE: Final = 0x10
INSERT_RANGE: Final = 0x20

RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2
RENAME_WHITEOUT: Final = 4

EXT_MAGIC: Final = 0xEF53  # ext2, ext3 and ext4: statfs(2)
XFS_MAGIC: Final = 0x58465342
BTRFS_MAGIC: Final = 0x9123683E
OVERLAY_MAGIC: Final = 0x794C7630
TMPFS_MAGIC: Final = 0x01021994

_FICLONERANGE: Final = 0x4020940D
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_NO_SYMLINKS: Final = 0x04
_RESOLVE_BENEATH: Final = 0x08
_RESOLVE: Final = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS
_NO_MAP = frozenset({errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})

_fallocate = function("fallocate", INT, INT, ctypes.c_int64, ctypes.c_int64)
_syncfs = function("syncfs", INT)
_renameat2 = function("renameat2", INT, ctypes.c_char_p, INT, ctypes.c_char_p, ctypes.c_uint)  # glibc >= 2.28
_fstatfs = function("fstatfs", INT, ctypes.c_void_p)
_syscall = function("syscall", LONG, LONG, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, restype=LONG)


def data_extents(fd: int, size: int) -> list[Extent]:
    """The runs that hold data, by SEEK_DATA and SEEK_HOLE (lseek(2)); moves the file offset.

    A file system without hole support answers one extent. Unwritten (preallocated) blocks count as holes.
    """
    found: list[Extent] = []
    position = 0
    while position < size:
        try:
            begin = os.lseek(fd, position, os.SEEK_DATA)
            if begin >= size:
                break
            position = min(os.lseek(fd, begin, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but hole up to the end
                break
            if error.errno in _NO_MAP:
                return [Extent(0, size)]
            raise
        found.append(Extent(begin, position - begin))
    return found


def allocated_extents(fd: int, size: int) -> list[Extent]:
    """The runs that are allocated but unwritten (fallocate); empty where the file system cannot tell.

    Blocks beyond ``size`` (FALLOC_FL_KEEP_SIZE) are included, but on XFS only if somebody asked for them: XFS also
    preallocates behind growing files on its own (up to the file's size again), and that is not to be copied.
    """
    try:
        runs = [(x.logical, x.length) for x in fm.fiemap(fd, sync=False) if x.flags & fm.UNWRITTEN]
    except OSError as error:
        if error.errno in _NO_MAP:
            return []
        raise
    beyond = bool(runs) and sum(runs[-1]) > size
    if beyond and statfs(fd).type == XFS_MAGIC and not inode_flags.get_xflags(fd) & inode_flags.XFLAG_PREALLOC:
        runs = [(begin, min(length, size - begin)) for begin, length in runs if begin < size]
    joined: list[Extent] = []
    for begin, length in runs:
        if joined and joined[-1].offset + joined[-1].length == begin:
            joined[-1] = Extent(joined[-1].offset, joined[-1].length + length)
        else:
            joined.append(Extent(begin, length))
    return joined


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2) with every mode, unlike os.posix_fallocate, and without glibc's slow emulation."""
    while _fallocate(fd, mode, offset, length) < 0:
        if ctypes.get_errno() != errno.EINTR:
            raise failed()


def syncfs(fd: int) -> None:
    """Write the whole file system of ``fd`` to disk. Since Linux 5.8 an earlier write-back error is reported here."""
    if _syncfs(fd) < 0:
        raise failed()


def renameat2(old_fd: int, old: bytes, new_fd: int, new: bytes, flags: int = 0) -> None:
    """renameat2(2). OSError EINVAL where the file system lacks the flag, EEXIST with RENAME_NOREPLACE."""
    if _renameat2(old_fd, old, new_fd, new, flags) < 0:
        raise failed(old)


def clone_range(dst_fd: int, src_fd: int, src_off: int, length: int, dst_off: int) -> None:
    """Share the source's blocks (ioctl_ficlonerange(2)); ``length`` 0 = to the end. Offsets block-aligned.

    OSError EOPNOTSUPP (ext4), EXDEV (two file systems), EINVAL (alignment).
    """
    ioctl(dst_fd, _FICLONERANGE, struct.pack("=qQQQ", src_fd, src_off, length, dst_off))


def open_beneath(root_fd: int, path: bytes, flags: int, mode: int = 0) -> int:
    """Open ``path`` below ``root_fd`` and nowhere else: no ``..`` out of it, no symlink anywhere, also not at the end.

    openat2(2), Linux 5.6. On an older kernel, and for a path longer than PATH_MAX, component by component with the same
    rules. OSError ELOOP (a symlink, or with O_DIRECTORY ENOTDIR), EXDEV (left the root).
    """
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, _RESOLVE)
    while (fd := int(_syscall(SYSCALLS["openat2"], root_fd, path or b".", how, len(how)))) < 0:
        number = ctypes.get_errno()
        if number in (errno.ENOSYS, errno.ENAMETOOLONG):
            return _open_by_components(root_fd, path, flags, mode)
        if number not in (errno.EINTR, errno.EAGAIN):  # EAGAIN: a rename raced with the check of ".."; try again
            raise failed(path)
    return fd


def _open_by_components(root_fd: int, path: bytes, flags: int, mode: int) -> int:
    *parents, last = [part for part in path.split(b"/") if part not in (b"", b".")] or [b"."]
    if path.startswith(b"/") or b".." in (*parents, last):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    here = root_fd
    try:
        for part in parents:
            there = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            if here != root_fd:
                os.close(here)
            here = there
        return os.open(last, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=here)
    finally:
        if here != root_fd:
            os.close(here)


def aligned_buffer(size: int) -> mmap.mmap:
    """Writable memory that starts on a page, as O_DIRECT wants it (open(2), NOTES)."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class Statfs(NamedTuple):
    """statfs(2). ``type`` is the magic number; ``fsid`` is what fanotify reports; counts in blocks of ``bsize``."""

    type: int
    bsize: int
    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int
    fsid: tuple[int, int]
    namelen: int
    frsize: int
    flags: int


_STATFS: Final = struct.Struct("=qqQQQQQiiqqq32x")  # 64-bit layout: asm-generic/statfs.h


def statfs(fd: int) -> Statfs:
    buffer = ctypes.create_string_buffer(_STATFS.size)
    if _fstatfs(fd, buffer) < 0:
        raise failed()
    kind, bsize, blocks, bfree, bavail, files, ffree, low, high, namelen, frsize, flags = _STATFS.unpack(buffer.raw)
    return Statfs(kind & 0xFFFFFFFF, bsize, blocks, bfree, bavail, files, ffree, (low, high), namelen, frsize, flags)
