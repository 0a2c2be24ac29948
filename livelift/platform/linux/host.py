"""Small questions to the running kernel: its boot, its idle processors; locks and file status flags of descriptors."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path
from typing import Final

_CLOCK_REALTIME_COARSE: Final = 5
"""linux/time.h; the standard library has no name for it."""


def stamp_clock() -> int:
    """ns since the epoch, by the clock that change times are taken from: it moves in ticks of 1 to 10 ms. What changes
    after this gets no earlier one (inode_set_ctime_current, current_time: ktime_get_coarse_real_ts64); by the finer
    CLOCK_REALTIME it may."""
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)


def boot_id() -> str:
    """The kernel's id of this boot (random(4))."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def idle_and_cores() -> tuple[float, int]:
    """(seconds that all processors together have been idle, number of processors), from /proc/stat (proc(5)).

    iowait is idle time; USER_HZ is 100 on every architecture Linux exposes it on (time(7)).
    """
    with open("/proc/stat", "rb") as file:
        lines = file.read().splitlines()
    fields = lines[0].split()
    return (int(fields[4]) + int(fields[5])) / 100, sum(line.startswith(b"cpu") for line in lines) - 1


def lock_exclusive(fd: int) -> None:
    """flock(2) that does not wait: held until the last descriptor of it is closed. BlockingIOError: held elsewhere."""
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def direct_io(fd: int, on: bool) -> None:
    """Switch O_DIRECT of an open file; nothing happens on a file system that has none (EINVAL, fcntl(2))."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT if on else flags & ~os.O_DIRECT)
    except OSError as error:
        if not on or error.errno != errno.EINVAL:
            raise


def next_data(fd: int, offset: int, size: int) -> int:
    """First offset from ``offset`` on that holds data, or ``size`` (lseek(2) SEEK_DATA)."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):  # no hole support here (some FUSE): all of it is data
            return offset
        raise


def make_private(path: Path) -> None:
    """A directory or file for its owner only."""
    path.chmod(0o700 if path.is_dir() else 0o600)


def is_private(fd: int) -> bool:
    """Whether nobody but its owner may read or change the file."""
    return not os.fstat(fd).st_mode & 0o077
