"""The Windows side of `platform.system`: the same names and promises as `platform.linux.host` and its neighbours."""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from pathlib import Path
from typing import Final

from livelift.model.extent import Extent
from livelift.platform.windows import dll, files, posix
from livelift.platform.windows.posix import lock_exclusive
from livelift.platform.windows.security import PRIVATE, dacl_trustees, owner_of, well_known

__all__ = [
    "aligned_buffer", "allocated_extents", "boot_id", "data_extents", "direct_io", "idle_and_cores", "is_private",
    "lock_exclusive", "lower_priority", "make_private", "next_data", "normal_priority", "open_beneath", "stamp_clock",
    "writable_shared_mappings",
]  # fmt: skip

_BELOW_NORMAL: Final = 0x4000

_times = dll.win32("kernel32", "GetSystemTimes", dll.POINTER, dll.POINTER, dll.POINTER)
_ticks = dll.plain("kernel32", "GetTickCount64", result=ctypes.c_uint64)
_now = dll.plain("kernel32", "GetSystemTimeAsFileTime", dll.POINTER, result=None)
_process = dll.plain("kernel32", "GetCurrentProcess", result=dll.HANDLE)
_priority = dll.win32("kernel32", "SetPriorityClass", dll.HANDLE, dll.DWORD)
_from_sddl = dll.win32(
    "advapi32", "ConvertStringSecurityDescriptorToSecurityDescriptorW", dll.TEXT, dll.DWORD, dll.POINTER, dll.POINTER
)
_set_security = dll.win32("advapi32", "SetFileSecurityW", dll.TEXT, dll.DWORD, dll.POINTER)
_free = dll.plain("kernel32", "LocalFree", dll.POINTER, result=dll.POINTER)


def stamp_clock() -> int:
    """As on Linux. time.time_ns takes GetSystemTimeAsFileTime, which moves in the ticks that NTFS stamps with; from
    Python 3.13 on a finer one, by up to one tick (16 ms)."""
    return time.time_ns()


def boot_id() -> str:
    """The time of the boot in steps of 10 s (the clock and the tick counter are read one after the other)."""
    now = ctypes.c_uint64()
    _now(ctypes.byref(now))
    return f"boot-{(now.value // 10_000 - int(_ticks())) // 10_000}"


def idle_and_cores() -> tuple[float, int]:
    """(seconds that all processors together have been idle, number of processors): GetSystemTimes."""
    idle, kernel, user = ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_uint64()
    _times(ctypes.byref(idle), ctypes.byref(kernel), ctypes.byref(user))
    return idle.value / 1e7, os.cpu_count() or 1


def lower_priority(nice: int = 10, *, idle_io: bool = True) -> None:
    """Below normal for the whole process. The background mode would also shrink its memory, which slows the hashing."""
    _priority(_process(), _BELOW_NORMAL)


def normal_priority() -> None:
    """Nothing: here it is the process that has one, and no capture has a ring that fills."""


def writable_shared_mappings() -> set[tuple[int, int]]:
    """Windows tells nobody which files are mapped; captures say "mmap" in ``blind_to``, and the closing comparison
    looks at every changed stamp."""
    return set()


def aligned_buffer(length: int) -> mmap.mmap:
    return mmap.mmap(-1, length)


def data_extents(fd: int, size: int) -> list[Extent]:
    """What is allocated of a sparse file; all of it where the file system cannot tell."""
    if not size:
        return []
    ranges = files.allocated_ranges(dll.handle_of(fd), size)
    return [Extent(0, size)] if ranges is None else [Extent(*found) for found in ranges]


def allocated_extents(fd: int, size: int) -> list[Extent]:
    """NTFS has no preallocated, unwritten extents below the size: what was never written lies behind the valid data
    length and reads as zeros."""
    return []


def next_data(fd: int, offset: int, size: int) -> int:
    if offset >= size:
        return size
    ranges = files.allocated_ranges(dll.handle_of(fd), size)
    if ranges is None:
        return offset
    return next((max(start, offset) for start, length in ranges if start + length > offset), size)


def direct_io(fd: int, on: bool) -> None:
    """Nothing: a handle is unbuffered from its opening on or never (CreateFileW, FILE_FLAG_NO_BUFFERING)."""


def open_beneath(fd: int, path: bytes, flags: int) -> int:
    """A path below a directory, part by part, through no reparse point."""
    current = fd
    parts = path.split(b"/")
    try:
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            below = posix.open(part, (flags if last else posix.O_DIRECTORY) | posix.O_NOFOLLOW, dir_fd=current)
            if current != fd:
                posix.close(current)
            current = below
        return current
    except BaseException:
        if current != fd:
            posix.close(current)
        raise


def make_private(path: Path) -> None:
    """A protected DACL: SYSTEM, administrators and the owner; of a directory, inherited by what is made inside."""
    descriptor = ctypes.c_void_p()
    _from_sddl(PRIVATE, 1, ctypes.byref(descriptor), None)
    try:
        _set_security(posix.extended(os.fspath(path)), files.DACL | 0x80000000, descriptor)
    finally:
        _free(descriptor)


def is_private(fd: int) -> bool:
    """Whether the DACL gives rights to SYSTEM, administrators and the owner only. False without a DACL (all may)."""
    handle = files.open_at(dll.handle_of(fd), b"", files.READ_CONTROL | files.SYNCHRONIZE)
    try:
        raw = files.security_descriptor(handle, files.OWNER | files.DACL)
    finally:
        files.close(handle)
    trustees = dacl_trustees(raw)
    return trustees is not None and trustees <= {*well_known(), owner_of(raw)}
