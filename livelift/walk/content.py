"""The content of regular files: small ones in one go, large ones in aligned chunks; data, holes and preallocation."""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Final, NamedTuple

from livelift.model.entry import Attributes, Extent, Stamp
from livelift.platform.linux.files import aligned_buffer, allocated_extents, data_extents
from livelift.walk.attributes import Report, attributes_of_fd, reopen

SMALL: Final = 256 << 10
CHUNK: Final = 1 << 20
DIRECT_FROM: Final = 4 << 20
"""Below this O_DIRECT loses to read-ahead."""

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


class BufferPool:
    """Page-aligned chunk buffers that are used again; page faults on fresh memory cost more than an O_DIRECT read.

    A view that is never given back is only garbage. Safe for threads (a deque's append and pop are atomic).
    """

    def __init__(self, keep: int = 8) -> None:
        self._free: deque[mmap.mmap] = deque(maxlen=keep)

    def take(self) -> mmap.mmap:
        try:
            return self._free.pop()
        except IndexError:
            return aligned_buffer(CHUNK)

    def release(self, view: memoryview) -> None:
        """The caller is done with a chunk and holds no other view of it."""
        owner = view.obj
        view.release()
        if isinstance(owner, mmap.mmap):
            self._free.append(owner)


class LargeFile:
    """A regular file that is read in chunks of at most 1 MiB, cut at multiples of 1 MiB of the file offset.

    ``direct``: read past the page cache where the file is at least 4 MiB long. Say so only for a file that nobody is
    writing: the kernel flushes dirty pages of the range first, and the workload waits for that. Falls back by itself
    where the file system refuses (EINVAL). Use as a context manager; takes over ``fd``.
    """

    def __init__(self, fd: int, *, direct: bool = False, pool: BufferPool | None = None) -> None:
        self.fd = fd
        self.pool = pool or BufferPool()
        self._direct_fd = -1
        try:
            self.stat = os.fstat(fd)
            if not stat.S_ISREG(self.stat.st_mode):
                raise OSError(errno.ESTALE, "no longer a regular file")
            if direct and self.stat.st_size >= DIRECT_FROM:
                self._direct_fd = _open_direct(fd)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def open(cls, dir_fd: int, name: bytes, *, direct: bool = False, pool: BufferPool | None = None) -> LargeFile:
        return cls(open_file(dir_fd, name), direct=direct, pool=pool)

    def __enter__(self) -> LargeFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for fd in (self.fd, self._direct_fd):
            if fd >= 0:
                os.close(fd)
        self.fd = self._direct_fd = -1

    @property
    def direct(self) -> bool:
        """Whether the page cache is really passed by."""
        return self._direct_fd >= 0

    def attributes(self, report: Report | None = None) -> Attributes:
        """As they are now, with the size and stamp of now."""
        return attributes_of_fd(self.fd, os.fstat(self.fd), report)

    def changed(self) -> bool:
        """Whether the stamp is another one than at opening: what was read may be a mixture."""
        return _stamp(os.fstat(self.fd)) != _stamp(self.stat)

    def extents(self, start: int = 0, end: int | None = None) -> list[Extent]:
        """The data between ``start`` and ``end`` (default: the end of the file as it was at opening)."""
        end = self.stat.st_size if end is None else min(end, self.stat.st_size)
        found = [(max(run.offset, start), run.offset + run.length) for run in data_extents(self.fd, end)]
        return [Extent(begin, stop - begin) for begin, stop in found if begin < stop]

    def allocated(self) -> tuple[Extent, ...]:
        """What is allocated and holds no data (fallocate); may reach beyond the end of the file.

        Preallocated blocks that somebody has read lately count as data (of zeros): there SEEK_DATA asks the page cache.
        """
        return _unwritten(self.fd, self.stat.st_size, tuple(self.extents()))

    def chunks(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, memoryview]]:
        """(offset, bytes) over the data, in order. Give a view back with ``pool.release`` when it was used up.

        A file that shrinks meanwhile just ends earlier. OSError from reading (EIO) comes through.
        """
        for run in self.extents(start, end):
            offset, stop = run.offset, run.offset + run.length
            while offset < stop:
                want = min(stop, (offset // CHUNK + 1) * CHUNK) - offset
                view = self._read(offset, want)
                if not view:
                    return
                got = len(view)  # taken before the consumer may release the view
                yield offset, view
                offset += got

    def _read(self, offset: int, want: int) -> memoryview:
        """Up to ``want`` bytes at ``offset``, not crossing a chunk boundary; empty at the end of the file."""
        aligned = offset - offset % _PAGE
        lead = offset - aligned
        window = memoryview(self.pool.take())
        got = 0
        while got < lead + want:
            try:
                if self._direct_fd >= 0:
                    length = -(-(lead + want) // _PAGE) * _PAGE
                    count = os.preadv(self._direct_fd, [window[got:length]], aligned + got)
                else:
                    count = os.preadv(self.fd, [window[got : lead + want]], aligned + got)
            except OSError as error:
                if error.errno != errno.EINVAL or self._direct_fd < 0:
                    raise
                # It cannot here (data=journal, encryption, inline data), or a short read left an odd position.
                os.close(self._direct_fd)
                self._direct_fd = -1
                continue
            if count == 0:
                break
            got += count
        if got <= lead:
            self.pool.release(window)
            return memoryview(b"")
        return window[lead : min(got, lead + want)]


def _stamp(st: os.stat_result) -> Stamp:
    return Stamp(st.st_size, st.st_mtime_ns, st.st_ctime_ns)


def _open_direct(fd: int) -> int:
    """A second descriptor of the same file with O_DIRECT, or -1 where the file system has none (open(2): EINVAL)."""
    flags = os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC
    try:
        try:
            return os.open(b"/proc/self/fd/%d" % fd, flags | os.O_NOATIME)
        except PermissionError:
            return os.open(b"/proc/self/fd/%d" % fd, flags)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return -1
        raise


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
