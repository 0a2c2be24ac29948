"""One changed file becomes the records that bring the target up to date: only the blocks whose digest differs.

Reading is late: it sees the file as it is now. The stamp is taken *before* the first byte is read, so a change during
the reading leaves a stamp that no longer matches (and an event that marks the file again).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from livelift.merge.blocks import DIGEST, SMALL, HoleDigest, block_size, changed, digests
from livelift.model.record import Kind
from livelift.platform.system import aligned_buffer, data_extents, os

WINDOW = 1 << 20
"""Bytes read at a time: bounds memory, and is the largest payload of one record."""


ALIGN = 4096
"""What O_DIRECT asks of offset, length and memory on every disk in use."""


class Part(NamedTuple):
    """A record in the making: the locator is added when it goes into the log."""

    kind: Kind
    offset: int
    length: int
    payload: bytes | memoryview = b""


class Digests:
    """Collects the digests of the content as it is now, for the next comparison."""

    def __init__(self, block: int) -> None:
        self.block = block
        self.value = bytearray()


def read_exactly(fd: int, offset: int, length: int) -> bytes:
    """``length`` bytes at ``offset``, fewer only at the end of the file."""
    data = os.pread(fd, length, offset)
    while len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def is_plain(st: os.stat_result) -> bool:
    """One run of data without holes, and nothing reserved beside it: two blocks of 4 KiB are tolerated, for tails and
    metadata that a file system counts in."""
    return st.st_size <= st.st_blocks * 512 < st.st_size + 2 * ALIGN


Read = Callable[[int, int], bytes]


@contextmanager
def reader(fd: int, direct: bool) -> Iterator[Read]:
    """(offset, length) -> bytes of an open file; ``direct``: past the page cache where the file system can (open(2)
    O_DIRECT)."""
    if not direct:
        yield lambda offset, length: read_exactly(fd, offset, length)
        return
    try:
        raw = os.open(b"/proc/self/fd/%d" % fd, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC | os.O_NOATIME)
    except OSError:  # tmpfs before 6.6, some FUSE: no O_DIRECT; or O_NOATIME refused
        yield lambda offset, length: read_exactly(fd, offset, length)
        return
    buffer = aligned_buffer(WINDOW)

    def read(offset: int, length: int) -> bytes:
        if offset % ALIGN or length > WINDOW:
            return read_exactly(fd, offset, length)
        try:
            with memoryview(buffer) as view:
                got = os.preadv(raw, [view[: -(-length // ALIGN) * ALIGN]], offset)
                if got < length:  # the end of the file, or a short read
                    return read_exactly(fd, offset, length)
                return bytes(view[:length])
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return read_exactly(fd, offset, length)

    try:
        yield read
    finally:
        os.close(raw)
        buffer.close()


def parts_of(
    fd: int,
    st: os.stat_result,
    old_size: int,
    old: tuple[int, bytes] | None,
    new: Digests | None,
    read: Read | None = None,
) -> Iterator[Part]:
    """What must be written on the target. ``old_size`` -1 and ``old`` None: nothing is known of the target's content.

    A shrunk file is truncated first (so that what grows back reads as zeros where it is a hole), a grown one last.
    ``new`` is None for files that are sent whole.
    """
    size = st.st_size
    if 0 <= size < old_size or old_size < 0:
        yield Part(Kind.TRUNCATE, size, 0)
    sparse = st.st_blocks * 512 < size
    extents: Sequence[tuple[int, int]] = data_extents(fd, size) if sparse else [(0, size)] if size else []
    if new is None:
        yield from _whole(fd, size, extents, sparse)
    else:
        known = old[1] if old and old[0] == new.block else b""
        yield from _blockwise(read or (lambda o, n: read_exactly(fd, o, n)), size, extents, known, new)
    if size > old_size >= 0:
        yield Part(Kind.TRUNCATE, size, 0)


def _whole(fd: int, size: int, extents: Sequence[tuple[int, int]], sparse: bool) -> Iterator[Part]:
    at = 0
    for offset, length in extents:
        if offset > at:
            yield Part(Kind.PUNCH, at, offset - at)
        yield Part(Kind.WRITE, offset, length, read_exactly(fd, offset, length))
        at = offset + length
    if sparse and at < size:
        yield Part(Kind.PUNCH, at, size - at)


def _blockwise(read: Read, size: int, extents: Sequence[tuple[int, int]], old: bytes, new: Digests) -> Iterator[Part]:
    """Windows of whole blocks, in file order. Extents are widened to blocks: a block with any data is read."""
    block = new.block
    window = max(WINDOW // block, 1) * block
    end = 0
    for offset, length in extents:
        first = max(offset // block * block, end)
        last = min(-(-(offset + length) // block) * block, -(-size // block) * block)
        if first > end:
            yield from _holes(end, first, size, old, new)
        for at in range(first, last, window):
            data = read(at, min(window, last - at, size - at))
            if not data:
                break
            here = digests(data, block)
            new.value += here
            for start, run, _ in changed(old, here, at // block, block):
                piece = memoryview(data)[start - at : start - at + run]
                yield Part(Kind.WRITE, start, len(piece), piece)
        end = max(end, last)
    if end < size:
        yield from _holes(end, size, size, old, new)


def _holes(start: int, end: int, size: int, old: bytes, new: Digests) -> Iterator[Part]:
    block = new.block
    if not old:  # nothing to compare with: one hole, whatever its size
        yield Part(Kind.PUNCH, start, min(end, size) - start)
        new.value += HoleDigest.VALUE * -(-(end - start) // block)
        return
    step = block * 65536  # a hole of terabytes is compared piece by piece
    for at in range(start, end, step):
        count = -(-(min(at + step, end) - at) // block)
        markers = HoleDigest.VALUE * count
        for first, run, _ in changed(old, markers, at // block, block):
            yield Part(Kind.PUNCH, first, min(run, size - first))
        new.value += markers


def wants_digests(size: int) -> Digests | None:
    """A collector for files that are worth comparing block by block."""
    return Digests(block_size(size)) if size > SMALL else None


__all__ = ["DIGEST", "WINDOW", "Digests", "Part", "parts_of", "read_exactly", "wants_digests"]
