"""The content of small regular files, read in one go: data, holes and preallocation."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final, NamedTuple

from livelift.merge.blocks import SMALL
from livelift.model.entry import Attributes
from livelift.model.extent import Extent
from livelift.platform.linux.files import allocated_extents, data_extents
from livelift.walk.attributes import Report, attributes_of_fd, reopen

_PAGE: Final = 4096
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_QUIET: Final = _FLAGS | os.O_NOATIME
_READS: Final = 4  # the first and three more


class Small(NamedTuple):
    """A whole file at one instant. ``payload``: the bytes of ``extents``, back to back. device, inode: whose it is."""

    attributes: Attributes
    extents: tuple[Extent, ...]
    allocated: tuple[Extent, ...]
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

    Reads again (at most three times) while the stamp changes under the reading. If it still does, the last reading
    comes with the latest stamp: the file's events, which arrive after it, have it read again.
    OSError: ESTALE if the name is no regular file any more; otherwise what open or read said.
    """
    fd = open_file(dir_fd, name)
    try:
        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode):
            raise OSError(errno.ESTALE, "no longer a regular file", name)
        for _ in range(_READS):
            size = st.st_size
            if size > limit:
                return None
            blocks = st.st_blocks << 9
            extents: tuple[Extent, ...]
            allocated: tuple[Extent, ...] = ()
            if blocks < size:
                extents = tuple(data_extents(fd, size))
                payload, extents = _read_extents(fd, extents)
                if blocks:
                    allocated = _unwritten(fd, size, extents)
            elif size:
                payload = os.pread(fd, size, 0)
                if len(payload) < size:
                    payload += _rest(fd, len(payload), size)
                extents = (Extent(0, len(payload)),) if payload else ()
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
    finally:
        os.close(fd)


def _rest(fd: int, have: int, size: int) -> bytes:
    """What a short read left over; ends early if the file did."""
    parts = []
    while have < size and (part := os.pread(fd, size - have, have)):
        parts.append(part)
        have += len(part)
    return b"".join(parts)


def _read_extents(fd: int, extents: tuple[Extent, ...]) -> tuple[bytes, tuple[Extent, ...]]:
    parts = []
    found = []
    for run in extents:
        part = _rest(fd, run.offset, run.offset + run.length)
        if part:
            parts.append(part)
            found.append(Extent(run.offset, len(part)))
        if len(part) < run.length:
            break
    return b"".join(parts), tuple(found)


def _clip(payload: bytes, extents: tuple[Extent, ...], size: int) -> tuple[bytes, tuple[Extent, ...]]:
    """Only what lies below ``size``: the file shrank after it had been read."""
    kept = tuple(Extent(run.offset, min(run.length, size - run.offset)) for run in extents if run.offset < size)
    return payload[: sum(run.length for run in kept)], kept


def _unwritten(fd: int, size: int, data: tuple[Extent, ...]) -> tuple[Extent, ...]:
    """Allocated runs less the data: an unwritten block whose page in memory is dirty counts as both."""
    found = []
    for run in allocated_extents(fd, size):
        begin, stop = run.offset, run.offset + run.length
        for taken in data:
            if taken.offset + taken.length <= begin:
                continue
            if taken.offset >= stop:
                break
            if taken.offset > begin:
                found.append(Extent(begin, taken.offset - begin))
            begin = taken.offset + taken.length
        if begin < stop:
            found.append(Extent(begin, stop - begin))
    return tuple(found)
