"""The calls of the ``os`` module that the core uses and Windows lacks, on Windows handles.

`livelift.platform.system` gives this module out as ``os`` there, so the core is one text for both systems. Descriptors
are those of the C runtime and own a handle. ``dir_fd`` is a directory's descriptor: a name is opened relative to its
handle, so no path can be swapped underneath. Everything not defined here is the real ``os``.
"""

from __future__ import annotations

import ctypes
import errno
import os as _os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from livelift.platform.windows import dll, files
from livelift.platform.windows.information import DIRECTORY
from livelift.platform.windows.names import one_name
from livelift.platform.windows.reparse import is_surrogate
from livelift.platform.windows.status import stat_result, status_of
from livelift.platform.windows.volatile import is_volatile

O_RDONLY: Final = 0
O_WRONLY: Final = 1
O_RDWR: Final = 2
O_ACCMODE: Final = 3
O_APPEND: Final = 0x8
O_CREAT: Final = 0x100
O_TRUNC: Final = 0x200
O_EXCL: Final = 0x400
O_DIRECTORY: Final = 0x10000
O_NOFOLLOW: Final = 0x20000
O_NOATIME: Final = 0  # the last access is not touched by backup intent on a volume with NtfsDisableLastAccessUpdate
O_PATH: Final = 0x40000
O_NONBLOCK: Final = 0
O_NOCTTY: Final = 0
O_CLOEXEC: Final = 0  # handles are not inherited unless asked for
O_DIRECT: Final = 0x80000

_CREATE_NEW, _CREATE_ALWAYS, _OPEN_EXISTING, _OPEN_ALWAYS, _TRUNCATE_EXISTING = 1, 2, 3, 4, 5
_OPEN_REPARSE: Final = 0x00200000
_BINARY: Final = 0x8000


class _Overlapped(ctypes.Structure):
    _fields_ = (
        ("internal", ctypes.c_void_p),
        ("internal_high", ctypes.c_void_p),
        ("offset", ctypes.c_uint32),
        ("offset_high", ctypes.c_uint32),
        ("event", ctypes.c_void_p),
    )


_read_file = dll.win32("kernel32", "ReadFile", dll.HANDLE, dll.POINTER, dll.DWORD, dll.POINTER, dll.POINTER)
_write_file = dll.win32("kernel32", "WriteFile", dll.HANDLE, dll.POINTER, dll.DWORD, dll.POINTER, dll.POINTER)
_flush = dll.win32("kernel32", "FlushFileBuffers", dll.HANDLE)
_free_space = dll.win32("kernel32", "GetDiskFreeSpaceExW", dll.TEXT, dll.POINTER, dll.POINTER, dll.POINTER)


class statvfs_result(NamedTuple):
    f_frsize: int
    f_bsize: int
    f_blocks: int
    f_bfree: int
    f_bavail: int
    f_files: int = 0
    f_ffree: int = 0


def open(file: bytes | str | _os.PathLike[str], flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    """open(2): O_NOFOLLOW says ELOOP for a symlink or junction, O_DIRECTORY ENOTDIR for what is no directory."""
    if dir_fd is not None:
        return _open_at(dir_fd, _os.fsencode(file), flags)
    access = files.GENERIC_READ
    if flags & O_ACCMODE:
        access |= files.GENERIC_WRITE
    disposition = _OPEN_EXISTING
    if flags & O_CREAT:
        disposition = _CREATE_NEW if flags & O_EXCL else _CREATE_ALWAYS if flags & O_TRUNC else _OPEN_ALWAYS
    elif flags & O_TRUNC:
        disposition = _TRUNCATE_EXISTING
    handle = files.open_path(extended(file), access, disposition, _OPEN_REPARSE if flags & O_NOFOLLOW else 0)
    return _descriptor(handle, flags)


def _open_at(dir_fd: int, name: bytes, flags: int) -> int:
    if flags & O_ACCMODE or flags & O_CREAT:
        raise OSError(errno.EROFS, "names below a directory descriptor are opened for reading only", name)
    text = b"" if name in (b"", b".") else name
    if text:
        _check(text)
    access = files.LOOK if flags & O_PATH else files.READ
    directory = dll.handle_of(dir_fd)
    handle = files.open_at(directory, text, access, follow=not flags & (O_NOFOLLOW | O_PATH))
    if flags & O_NOFOLLOW and not flags & O_PATH:
        tag = files.reparse_tag(handle)
        if tag and not is_surrogate(tag):  # content that a driver delivers: deduplicated, compressed, in the cloud
            files.close(handle)
            handle = files.open_at(directory, text, access, follow=True)
    device = device_of(dir_fd)
    fd = _descriptor(handle, flags)
    _devices[fd] = device
    return fd


def _check(name: bytes) -> None:
    try:
        one_name(name)
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error), name) from error


def _descriptor(handle: int, flags: int) -> int:
    """Takes the handle over, also when it is refused."""
    try:
        if flags & (O_DIRECTORY | O_NOFOLLOW) and not flags & O_PATH:
            found = files.information(handle)
            if flags & O_NOFOLLOW and found.reparse and is_surrogate(files.reparse_tag(handle)):
                raise OSError(errno.ELOOP, "a symbolic link or junction")
            if flags & O_DIRECTORY and not found.directory:
                raise NotADirectoryError(errno.ENOTDIR, "not a directory")
        return dll.open_descriptor(handle, _BINARY | (0 if flags & O_ACCMODE else O_RDONLY))
    except BaseException:
        files.close(handle)
        raise


def extended(file: bytes | str | _os.PathLike[str]) -> str:
    """The absolute path with the prefix that lifts the limit of 260 characters (CreateFileW)."""
    text = _os.path.abspath(_os.fsdecode(file))
    if text.startswith("\\\\"):
        return text if text.startswith(("\\\\?\\", "\\\\.\\")) else "\\\\?\\UNC" + text[1:]
    return "\\\\?\\" + text


def stat(file: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> stat_result:
    """As stat(2); of a name in a directory exactly as it is written there: another case or a short name is ENOENT."""
    if isinstance(file, int):
        return fstat(file)
    if dir_fd is None:
        flags = 0 if follow_symlinks else _OPEN_REPARSE
        handle = files.open_path(extended(file), files.READ_ATTRIBUTES, _OPEN_EXISTING, flags)
    else:
        name = _os.fsencode(file)
        text = b"" if name in (b"", b".") else name
        if text:
            _check(text)
        handle = files.open_at(dll.handle_of(dir_fd), text, files.LOOK, follow=follow_symlinks)
    try:
        if dir_fd is not None and text:
            _same_name(dll.handle_of(dir_fd), handle, text)
        return status_of(handle, files.volume_serial(handle) if dir_fd is None else device_of(dir_fd))
    finally:
        files.close(handle)


def _same_name(directory: int, handle: int, name: bytes) -> None:
    """Names are compared without case by the system and with it by the log. OSError: ENOENT."""
    try:
        same = files.path_on_volume(handle).rpartition(b"\\")[2] == name
    except OSError as error:
        if dll.winerror(error) not in files.NAMELESS | {files.FILE_NOT_FOUND}:
            raise
        same = files.has_name(directory, name)  # Wine: a directory above was renamed
    if not same:
        raise FileNotFoundError(errno.ENOENT, "there under another name", name)


_devices: dict[int, int] = {}
"""Descriptor -> serial number of its volume. What is opened relative to a directory is on its volume (what leads to
another one is a reparse point), so it is asked for once. Wine cannot tell it of a directory that was renamed."""


def device_of(fd: int) -> int:
    found = _devices.get(fd)
    if found is None:
        found = _devices[fd] = files.volume_serial(dll.handle_of(fd))
    return found


def close(fd: int) -> None:
    _devices.pop(fd, None)  # before the number can be given out again
    _os.close(fd)


def dup(fd: int) -> int:
    device = _devices.get(fd)
    copy = _os.dup(fd)
    if device is not None:
        _devices[copy] = device
    return copy


class DirEntry(NamedTuple):
    """What `scandir` gives. ``name`` is text, as the os module's is for a descriptor."""

    name: str
    directory: bool

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self.directory


@contextmanager
def scandir(fd: int) -> Iterator[Iterator[DirEntry]]:
    """The names of an open directory. Of a volume's root the volatile ones are left out (`volatile`)."""
    handle = files.open_at(dll.handle_of(fd), b"", files.READ_DATA | files.SYNCHRONIZE)
    try:
        yield _entries(handle)
    finally:
        files.close(handle)


def _entries(handle: int) -> Iterator[DirEntry]:
    root = files.is_root(handle)
    for entries in files.list_names(handle):
        for entry in entries:
            if not (root and is_volatile(entry.name)):
                plain = not (entry.reparse_tag and is_surrogate(entry.reparse_tag))
                yield DirEntry(_os.fsdecode(entry.name), plain and bool(entry.attributes & DIRECTORY))


_final = dll.win32(
    "kernel32", "GetFinalPathNameByHandleW", dll.HANDLE, dll.POINTER, dll.DWORD, dll.DWORD, result=dll.DWORD
)


def final_path(handle: int) -> str:
    """The path with a drive letter, or with the mount point of its volume."""
    buffer = ctypes.create_unicode_buffer(33000)
    _final(handle, buffer, 33000, 0)
    return buffer.value.removeprefix("\\\\?\\")


def lstat(file: Any, *, dir_fd: int | None = None) -> stat_result:
    return stat(file, dir_fd=dir_fd, follow_symlinks=False)


def fstat(fd: int) -> stat_result:
    return status_of(dll.handle_of(fd), device_of(fd))


def _at(offset: int) -> _Overlapped:
    return _Overlapped(None, None, offset & 0xFFFFFFFF, offset >> 32, None)


def pread(fd: int, length: int, offset: int) -> bytes:
    """pread(2). The position of the handle moves, which nothing here relies on."""
    buffer = ctypes.create_string_buffer(max(length, 1))
    got = _read_into(fd, ctypes.addressof(buffer), length, offset)
    return buffer.raw[:got]


def preadv(fd: int, buffers: list[Any], offset: int) -> int:
    total = 0
    for view in buffers:
        area = (ctypes.c_char * len(view)).from_buffer(view)
        got = _read_into(fd, ctypes.addressof(area), len(view), offset + total)
        del area
        total += got
        if got < len(view):
            break
    return total


def _read_into(fd: int, address: int, length: int, offset: int) -> int:
    got = ctypes.c_uint32()
    overlapped = _at(offset)
    try:
        _read_file(dll.handle_of(fd), address, length, ctypes.byref(got), ctypes.byref(overlapped))
    except OSError as error:
        if dll.winerror(error) != files.HANDLE_EOF:
            raise
        return 0
    return got.value


def pwrite(fd: int, data: Any, offset: int) -> int:
    raw = bytes(data)
    done = ctypes.c_uint32()
    overlapped = _at(offset)
    _write_file(dll.handle_of(fd), raw, len(raw), ctypes.byref(done), ctypes.byref(overlapped))
    return done.value


def pwritev(fd: int, buffers: list[Any], offset: int) -> int:
    total = 0
    for buffer in buffers:
        done = pwrite(fd, buffer, offset + total)
        total += done
        if done < len(buffer):
            break
    return total


def fsync(fd: int) -> None:
    """FlushFileBuffers. A directory opened for reading cannot be flushed: NTFS keeps names in its own log, whose
    records are written before those of a later flush of a file (they share one log), so this is no loss there."""
    handle = dll.handle_of(fd)
    if not files.information(handle).directory:
        _flush(handle)


fdatasync = fsync


def unlink(file: Any, *, dir_fd: int | None = None) -> None:
    if dir_fd is not None:
        raise OSError(errno.EROFS, "names below a directory descriptor are for reading only", file)
    _os.unlink(file)


def statvfs(file: Any) -> statvfs_result:
    """Room on the volume, in units of 4096 bytes. NTFS makes file records as they are needed: no count of inodes."""
    mine, total, free = ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_uint64()
    _free_space(extended(file), ctypes.byref(mine), ctypes.byref(total), ctypes.byref(free))
    unit = 4096
    return statvfs_result(unit, unit, total.value // unit, free.value // unit, mine.value // unit)


def geteuid() -> int:
    """0 if the process may back up what it has no rights on, as root may."""
    from livelift.platform.windows.privileges import enabled

    return 0 if enabled("SeBackupPrivilege") else 1000


def getuid() -> int:
    return geteuid()


_lock_file = dll.win32("kernel32", "LockFileEx", dll.HANDLE, dll.DWORD, dll.DWORD, dll.DWORD, dll.DWORD, dll.POINTER)


def lock_exclusive(fd: int) -> None:
    """LockFileEx on the byte behind the last possible one, so that others can still read. BlockingIOError: held."""
    overlapped = _at((1 << 63) - 2)
    try:
        _lock_file(dll.handle_of(fd), 3, 0, 1, 0, ctypes.byref(overlapped))  # exclusive, fail at once
    except OSError as error:
        if dll.winerror(error) in (files.LOCK_VIOLATION, 997):
            raise BlockingIOError(errno.EAGAIN, "locked by another process") from error
        raise


class _Path:
    """``os.path``, in which ismount takes bytes (CPython 3.13 fails on them)."""

    @staticmethod
    def ismount(file: bytes | str) -> bool:
        return _os.path.ismount(_os.fsdecode(file))

    def __getattr__(self, name: str) -> Any:
        return getattr(_os.path, name)


path = _Path()


def __getattr__(name: str) -> Any:
    """Everything else is the standard library's."""
    return getattr(_os, name)
