"""The content of files on Windows: the same calls as `walk.content`, for small files read in one go."""

from __future__ import annotations

import errno
import stat
from typing import Final, NamedTuple

from livelift.merge.blocks import SMALL
from livelift.model.entry import Attributes
from livelift.model.extent import Extent
from livelift.platform.windows import dll, files, posix, status
from livelift.walk.windows import Report, attributes_of_fd

_READS: Final = 4
_FLAGS: Final = posix.O_RDONLY | posix.O_NOFOLLOW
AHEAD: Final = 0
"""Files are opened one at a time: while one is open, neither its name nor its directory can go."""


class Small(NamedTuple):
    """A whole file at one instant, as `walk.content.Small`."""

    attributes: Attributes
    extents: tuple[Extent, ...]
    allocated: tuple[Extent, ...]
    payload: bytes
    device: int
    inode: int


def data_extents(fd: int, size: int) -> list[tuple[int, int]]:
    """(offset, length) of what holds data: the allocated ranges of a sparse file, else all of it."""
    if not size:
        return []
    ranges = files.allocated_ranges(dll.handle_of(fd), size)
    return [(0, size)] if ranges is None else ranges


def read_small(dir_fd: int, name: bytes, limit: int = SMALL, report: Report | None = None) -> Small | None:
    """The whole file, or None if it is larger than ``limit``. Reads again while it changes under the reading.

    OSError: ESTALE if it is no regular file; SHARING_VIOLATION (EACCES) if somebody has it for himself alone.
    """
    fd, st = open_regular(dir_fd, name)
    try:
        return read_open(fd, st, limit, report)
    finally:
        posix.close(fd)


def open_regular(dir_fd: int, name: bytes) -> tuple[int, status.stat_result]:
    """A descriptor for `read_open`, and its fstat."""
    fd = posix.open(name, _FLAGS, dir_fd=dir_fd)
    try:
        st = posix.fstat(fd)
        if not stat.S_ISREG(st.st_mode):
            raise OSError(errno.ESTALE, "no longer a regular file", name)
    except BaseException:
        posix.close(fd)
        raise
    return fd, st


def fetch(fd: int, st: status.stat_result) -> int:
    """There is no way to have the disk begin."""
    return st.st_size


def read_open(fd: int, st: status.stat_result, limit: int = SMALL, report: Report | None = None) -> Small | None:
    """The whole of an open file, as `read_small`."""
    for _ in range(_READS):
        size = st.st_size
        if size > limit:
            return None
        extents = [(0, size)] if size else []
        if st.st_blocks * 512 < size:
            extents = data_extents(fd, size)
        parts = [(offset, posix.pread(fd, length, offset)) for offset, length in extents]
        now = posix.fstat(fd)
        if (now.st_ctime_ns, now.st_mtime_ns, now.st_size) == (st.st_ctime_ns, st.st_mtime_ns, size):
            break
        st = now
    cut = [(offset, part[: max(st.st_size - offset, 0)]) for offset, part in parts]  # it may have shrunk meanwhile
    kept = [(offset, part) for offset, part in cut if part]
    payload = b"".join(part for _, part in kept)
    runs = tuple(Extent(offset, len(part)) for offset, part in kept)
    return Small(attributes_of_fd(fd, st, report), runs, (), payload, st.st_dev, st.st_ino)
