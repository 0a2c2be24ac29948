"""One segment file of the log on disk: made, recovered, appended to, read back. The format is `log.segment`."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from livelift.errors import CorruptError
from livelift.log.batch import Batch
from livelift.log.crc import Buffer
from livelift.log.segment import (
    FRAME_SIZE,
    HEADER_SIZE,
    REMEDY,
    Frame,
    SegmentHeader,
    chain_start,
    check_frame,
    frames_of,
    pack_frame,
    pack_header,
    seal_segment,
    unpack_frame,
    unpack_header,
)
from livelift.platform.system import os

SUFFIX = b".seg"
_INDEX_EVERY = 64 * 1024
"""Bytes between two indexed frames: a lookup walks at most that far, and 1 GiB of one-record frames indexes in 3 MB."""

_PARTS = 512
_PART = 16 * 1024
"""Payloads of this size on the average, and so many of them (the kernel takes 1024, IOV_MAX), are written as they are:
one more copy of 64 KiB writes at a disk's speed is felt."""


class Spot(NamedTuple):
    """Where a frame begins and the chain's value ahead of it: enough to read on from there."""

    lsn: int
    offset: int
    before: bytes


def segment_path(directory: bytes, first_lsn: int) -> bytes:
    return os.path.join(directory, b"%020d" % first_lsn + SUFFIX)


def segment_names(directory: bytes) -> list[tuple[int, bytes]]:
    """(first LSN, path) of every segment, ascending."""
    return sorted(
        (int(name[: -len(SUFFIX)]), os.path.join(directory, name))
        for name in os.listdir(directory)
        if name.endswith(SUFFIX) and name[: -len(SUFFIX)].isdigit()
    )


def sync_directory(directory: bytes) -> None:
    """Make created, renamed and removed names durable (fsync(2) of the directory)."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class SegmentFile:
    """A segment. One writer; readers have descriptors of their own and read only what was published as written.

    ``fd`` is -1 once it is full and flushed.
    """

    def __init__(self, path: bytes, fd: int, raw: bytes, header: SegmentHeader) -> None:
        self.path = path
        self.fd = fd
        self.header = header
        self.raw = raw
        self.size = HEADER_SIZE
        self.last_lsn = header.first_lsn - 1
        self.chain = chain_start(raw)
        self.dirty = True
        self._spots = [Spot(header.first_lsn, HEADER_SIZE, self.chain)]

    @property
    def name(self) -> str:
        return os.fsdecode(os.path.basename(self.path))

    @classmethod
    def create(cls, directory: bytes, header: SegmentHeader) -> SegmentFile:
        """OSError: nothing is left behind. Mode 0600: the log holds the content of everybody's files."""
        path = segment_path(directory, header.first_lsn)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        raw = pack_header(header)
        try:
            write_all(fd, [raw], 0)
        except OSError:
            os.close(fd)
            os.unlink(path)
            raise
        return cls(path, fd, raw, header)

    @classmethod
    def recover(cls, path: bytes, last: bool) -> tuple[SegmentFile, int]:
        """Check every byte of an existing segment: (segment, bytes of a torn tail that were cut off).

        CorruptError: damaged, naming file, offset and first lost LSN. A torn tail is cut off the file itself, durably.
        """
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            size = os.fstat(fd).st_size
            raw = os.pread(fd, HEADER_SIZE, 0)
            segment = cls(path, fd, raw, unpack_header(raw, os.fsdecode(os.path.basename(path))))
            for frame, _, _ in frames_of(segment._read, size, segment.name, segment.header, raw, last):
                segment._publish(frame)
            torn = size - segment.size
            if torn:
                os.ftruncate(fd, segment.size)
                os.fdatasync(fd)
        except BaseException:
            os.close(fd)
            raise
        segment.dirty = False
        return segment, torn

    def append(self, batch: Batch) -> None:
        """Write a batch as the next frame. OSError: the file is as it was before."""
        blobs, size = batch.blobs, batch.payload_size
        if len(blobs) > _PARTS or size < len(blobs) * _PART:
            blobs = [b"".join(blobs)]  # many small ones cost more than a copy
        head, chain = pack_frame(self.chain, batch.first_lsn, batch.count, batch.heads, blobs)
        try:
            write_all(self.fd, [head, batch.heads, *blobs], self.size)
        except OSError:
            os.ftruncate(self.fd, self.size)
            raise
        self.dirty = True
        self._publish(
            Frame(self.size, batch.first_lsn, batch.count, len(batch.heads), size, self.chain, chain)
        )

    def spot(self, lsn: int) -> Spot:
        """A frame at or before the one that holds ``lsn``."""
        return self._spots[bisect_right(self._spots, lsn, key=lambda spot: spot.lsn) - 1]

    def seal(self) -> bytes:
        """What the next segment's header says of this one."""
        return seal_segment(self.raw, self.chain)

    def reader(self) -> int:
        """A descriptor of the caller's own. It reads on when the segment is deleted meanwhile."""
        return os.dup(self.fd) if self.fd >= 0 else os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW)

    def release(self) -> int:
        """Hand over the descriptor: nothing is appended any more. A log of any size keeps few files open."""
        fd, self.fd = self.fd, -1
        return fd

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.release())

    def _read(self, offset: int, length: int) -> bytes:
        return read_all(self.fd, offset, length)

    def _publish(self, frame: Frame) -> None:
        if self._spots[-1].offset + _INDEX_EVERY <= frame.offset:
            self._spots.append(Spot(frame.first_lsn, frame.offset, frame.before))
        self.size = frame.end
        self.chain = frame.chain
        self.last_lsn = frame.last_lsn


def read_batch(fd: int, name: str, spot: Spot, lsn: int) -> tuple[Batch, Spot]:
    """The batch that holds ``lsn``, sought from ``spot``, and the spot behind it. CorruptError: damaged."""
    while True:
        frame = unpack_frame(read_all(fd, spot.offset, FRAME_SIZE), spot.offset, spot.before)
        if frame is None or frame.first_lsn != spot.lsn or not frame.records:
            raise CorruptError(
                f"segment {name}, offset {spot.offset}: frame header damaged, first lost LSN {spot.lsn}", remedy=REMEDY
            )
        spot = Spot(frame.last_lsn + 1, frame.end, frame.chain)
        if frame.last_lsn >= lsn:
            break
    body = read_all(fd, frame.offset + FRAME_SIZE, frame.heads_len + frame.blob_len)
    heads, blob = body[: frame.heads_len], memoryview(body)[frame.heads_len :]
    check_frame(frame, heads, blob, name)
    return Batch(frame.first_lsn, frame.records, heads, [blob] if len(blob) else []), spot


def read_all(fd: int, offset: int, length: int) -> bytes:
    """pread(2) until ``length`` bytes or the end of the file (one call moves 2 GiB at most)."""
    data = os.pread(fd, length, offset)
    while len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def write_all(fd: int, parts: list[Buffer], offset: int) -> None:
    """pwritev(2) until all is written. OSError as the kernel says (ENOSPC, EDQUOT, EIO)."""
    total = sum(map(len, parts))
    done = os.pwritev(fd, parts, offset)
    if done == total:
        return
    rest = memoryview(b"".join(parts))
    while done < total:
        done += os.pwrite(fd, rest[done:], offset + done)
