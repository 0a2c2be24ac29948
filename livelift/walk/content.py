"""The content of small regular files, read in one go: data, holes and preallocation."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import Final

import msgspec

from livelift.merge.blocks import SMALL
from livelift.model.entry import Attributes
from livelift.platform.linux.files import allocated_extents, data_extents
from livelift.walk.attributes import Report, attributes_of_fd, reopen

_PAGE: Final = 4096
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_QUIET: Final = _FLAGS | os.O_NOATIME
_READS: Final = 4  # the first and three more
AHEAD: Final = 1 << 20
"""Bytes of small files that are open, and on their way from the disk, before the first of them is read."""


Runs = tuple[tuple[int, int], ...]
"""(offset, length) in bytes, ascending."""


class Small(msgspec.Struct, gc=False):
    """A whole file at one instant. ``payload``: the bytes of ``extents``, back to back. device, inode: whose it is."""

    attributes: Attributes
    extents: Runs
    allocated: Runs
    payload: bytes
    device: int
    inode: int


def open_file(dir_fd: int, name: bytes) -> int:
    """Open a regular file for reading: no symlink, no blocking on a FIFO, no atime update where that is permitted.

    Only for a name that the listing called regular: opening a device node can have effects (use `attributes_at`).
    """
    try:
        return os.open(name, _QUIET, dir_fd=dir_fd)
    except PermissionError:  # O_NOATIME is for the owner and CAP_FOWNER only
        return os.open(name, _FLAGS, dir_fd=dir_fd)
    except BlockingIOError:  # a lease (NFS delegation, Samba oplock): see reopen
        pinned = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
        try:
            if not stat.S_ISREG(os.fstat(pinned).st_mode):
                raise OSError(errno.ESTALE, "no longer a regular file", name) from None
            return reopen(pinned)
        finally:
            os.close(pinned)


def read_small(dir_fd: int, name: bytes, limit: int = SMALL, report: Report | None = None) -> Small | None:
    """The whole file, or None if it is larger than ``limit`` bytes.

    OSError: ESTALE if the name is no regular file any more; otherwise what open or read said.
    """
    fd, st = open_regular(dir_fd, name)
    try:
        return read_open(fd, st, limit, report)
    finally:
        os.close(fd)


def open_regular(dir_fd: int, name: bytes) -> tuple[int, os.stat_result]:
    """A descriptor for `read_open`, and its fstat. OSError as `read_small`."""
    fd = open_file(dir_fd, name)
    try:
        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode):
            raise OSError(errno.ESTALE, "no longer a regular file", name)
    except BaseException:
        os.close(fd)
        raise
    return fd, st


def fetch(fd: int, st: os.stat_result) -> int:
    """Have the disk begin to read a small file (posix_fadvise(2)); how many bytes will be read of it."""
    size = st.st_size
    if size > SMALL:
        return 0
    if 0 < size <= st.st_blocks << 9:  # else it has holes, which would be filled with pages of zeros
        try:
            os.posix_fadvise(fd, 0, size, os.POSIX_FADV_WILLNEED)
        except OSError:
            pass  # a hint, which some file system may not know
    return size


def read_open(fd: int, st: os.stat_result, limit: int = SMALL, report: Report | None = None) -> Small | None:
    """The whole of an open regular file whose fstat was ``st``, or None if it is larger than ``limit`` bytes.

    Reads again (at most three times) while the stamp changes under the reading. If it still does, the last reading
    comes with the latest stamp: the file's events, which arrive after it, have it read again. OSError of the reading.
    """
    for _ in range(_READS):
        size = st.st_size
        if size > limit:
            return None
        blocks = st.st_blocks << 9
        extents: Runs
        allocated: Runs = ()
        if blocks < size:
            payload, extents = _read_extents(fd, data_extents(fd, size))
            if blocks:
                allocated = _unwritten(fd, size, extents)
        elif size:
            payload = os.pread(fd, size, 0)
            if len(payload) < size:
                payload += _rest(fd, len(payload), size)
            extents = ((0, len(payload)),) if payload else ()
            if blocks >= size + _PAGE * 2:
                allocated = _unwritten(fd, size, extents)
        else:
            payload, extents = b"", ()
            if blocks:
                allocated = _unwritten(fd, 0, ())
        now = os.fstat(fd)
        if now.st_ctime_ns == st.st_ctime_ns and now.st_mtime_ns == st.st_mtime_ns and now.st_size == size:
            break
        st = now
    if st.st_size < sum(extents[-1] if extents else ()):
        payload, extents = _clip(payload, extents, st.st_size)
    return Small(attributes_of_fd(fd, st, report), extents, allocated, payload, st.st_dev, st.st_ino)


def _rest(fd: int, have: int, size: int) -> bytes:
    """What a short read left over; ends early if the file did."""
    parts = []
    while have < size and (part := os.pread(fd, size - have, have)):
        parts.append(part)
        have += len(part)
    return b"".join(parts)


def _read_extents(fd: int, extents: Sequence[tuple[int, int]]) -> tuple[bytes, Runs]:
    parts = []
    found = []
    for offset, length in extents:
        part = _rest(fd, offset, offset + length)
        if part:
            parts.append(part)
            found.append((offset, len(part)))
        if len(part) < length:
            break
    return b"".join(parts), tuple(found)


def _clip(payload: bytes, extents: Runs, size: int) -> tuple[bytes, Runs]:
    """Only what lies below ``size``: the file shrank after it had been read."""
    kept = tuple((offset, min(length, size - offset)) for offset, length in extents if offset < size)
    return payload[: sum(length for _, length in kept)], kept


def _unwritten(fd: int, size: int, data: Runs) -> Runs:
    """Allocated runs less the data: an unwritten block whose page in memory is dirty counts as both."""
    found = []
    for offset, length in allocated_extents(fd, size):
        begin, stop = offset, offset + length
        for taken, held in data:
            if taken + held <= begin:
                continue
            if taken >= stop:
                break
            if taken > begin:
                found.append((begin, taken - begin))
            begin = taken + held
        if begin < stop:
            found.append((begin, stop - begin))
    return tuple(found)
