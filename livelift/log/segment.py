"""A segment of the log as a file: a header, then frames (one batch each), linked by a hash chain.

    header: "LLSEG001" | version u16 | 0 u16 | 0 u32 | first_lsn u64 | covers u64 | previous 32 | job 60 | crc u32
    frame:  magic u32 | first_lsn u64 | records u32 | heads_len u32 | blob_len u32 | chain 16 | crc u32 | heads | blob

Little endian, 128 and 44 bytes. The chain starts as BLAKE3 of the header; each frame's value is BLAKE3 over the value
before it, its own lengths, heads and blob (first 16 bytes). ``previous`` is BLAKE3-256 of the header and last chain
value of the segment before, so no frame or segment can be altered, removed or swapped unseen. ``covers`` <=
``first_lsn``: where the log was given up (`Spool.collapse`) the LSNs from ``covers`` up to ``first_lsn`` do not exist
and its first record is a GAP; otherwise both are equal.

A frame that is cut off by the end of the newest file is a torn tail: its write was interrupted, nobody ever got it.
Everything else that does not fit is damage.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from blake3 import blake3

from livelift.errors import CorruptError, VersionError
from livelift.log.crc import Buffer, crc32c

MAGIC: Final = b"LLSEG001"
VERSION: Final = 1
FRAME_MAGIC: Final = 0x4D52464C  # "LFRM"
NO_PREVIOUS: Final = bytes(32)
REMEDY: Final = (
    "run `livelift source --resync`: it sets the damaged log aside, keeps the replica and compares everything again"
)

_HEADER = struct.Struct("<8sHHIQQ32s60sI")
_FRAME = struct.Struct("<IQIII16sI")
_LENGTHS = struct.Struct("<QIII")
_CRC = struct.Struct("<I")
HEADER_SIZE: Final = _HEADER.size
FRAME_SIZE: Final = _FRAME.size

Read = Callable[[int, int], bytes]
"""``read(offset, length)``: that many bytes, fewer only at the end of the file."""


class SegmentHeader(NamedTuple):
    job: str
    first_lsn: int
    covers: int
    previous: bytes


class Frame(NamedTuple):
    """A frame's place and shape. ``before`` and ``chain``: the chain's value ahead of it and behind it."""

    offset: int
    first_lsn: int
    records: int
    heads_len: int
    blob_len: int
    before: bytes
    chain: bytes

    @property
    def end(self) -> int:
        return self.offset + FRAME_SIZE + self.heads_len + self.blob_len

    @property
    def last_lsn(self) -> int:
        return self.first_lsn + self.records - 1


def pack_header(header: SegmentHeader) -> bytes:
    job = header.job.encode()
    if len(job) > 60:
        raise ValueError(f"job id longer than 60 bytes: {header.job}")
    raw = _HEADER.pack(MAGIC, VERSION, 0, 0, header.first_lsn, header.covers, header.previous, job, 0)[:-4]
    return raw + _CRC.pack(crc32c(raw))


def unpack_header(raw: bytes, name: str) -> SegmentHeader:
    """CorruptError or VersionError, naming the file."""
    if len(raw) < HEADER_SIZE:
        raise _corrupt(name, 0, "the segment header is cut off")
    magic, version, _, _, first, covers, previous, job, crc = _HEADER.unpack_from(raw)
    if magic != MAGIC or crc32c(raw[: HEADER_SIZE - 4]) != crc:
        raise _corrupt(name, 0, "the segment header is damaged")
    if version != VERSION:
        raise VersionError(f"segment {name} has format {version}, this release reads {VERSION}")
    try:
        return SegmentHeader(job.rstrip(b"\0").decode(), first, covers, previous)
    except UnicodeDecodeError as error:
        raise _corrupt(name, 0, "the segment header's job id is no text") from error


def chain_start(header: bytes) -> bytes:
    return blake3(header).digest(16)


def seal_segment(header: bytes, chain: bytes) -> bytes:
    """What the next segment's ``previous`` has to be."""
    return blake3(header + chain).digest()


def pack_frame(
    before: bytes, first_lsn: int, count: int, heads: bytes, blobs: Sequence[Buffer]
) -> tuple[bytes, bytes]:
    """(frame header, new chain value)."""
    size = sum(map(len, blobs))
    chain = _link(before, first_lsn, count, heads, blobs, size)
    raw = _FRAME.pack(FRAME_MAGIC, first_lsn, count, len(heads), size, chain, 0)[:-4]
    return raw + _CRC.pack(crc32c(raw)), chain


def unpack_frame(raw: bytes, offset: int, before: bytes) -> Frame | None:
    """The frame header at the start of ``raw``; None if it is damaged or cut off."""
    if len(raw) < FRAME_SIZE:
        return None
    magic, first, count, heads_len, blob_len, chain, crc = _FRAME.unpack_from(raw)
    if magic != FRAME_MAGIC or crc32c(raw[: FRAME_SIZE - 4]) != crc:
        return None
    return Frame(offset, first, count, heads_len, blob_len, before, chain)


def check_frame(frame: Frame, heads: bytes, blob: Buffer, name: str) -> None:
    """CorruptError unless these are the bytes that were written here, behind those that were written before."""
    if _link(frame.before, frame.first_lsn, frame.records, heads, [blob], len(blob)) != frame.chain:
        raise _corrupt(name, frame.offset, f"hash chain broken, first lost LSN {frame.first_lsn}")


def frames_of(
    read: Read, size: int, name: str, header: SegmentHeader, raw: bytes, last: bool
) -> Iterator[tuple[Frame, bytes, memoryview]]:
    """(frame, heads, blob) of a whole segment, each checked. ``raw``: the header's bytes; ``size``: the file's.

    Stops at a torn tail if this is the ``last`` segment (the caller sees it: the last frame ends before ``size``).
    CorruptError: anything else, naming the file, the offset and the first lost LSN. Never asks for more than ``size``.
    """
    offset, expected, chain = HEADER_SIZE, header.first_lsn, chain_start(raw)
    while offset < size:
        frame = unpack_frame(read(offset, FRAME_SIZE), offset, chain)
        if frame is None:
            if last and (size - offset < FRAME_SIZE or _all_zero(read, offset, size)):
                return
            raise _corrupt(name, offset, f"frame header damaged, first lost LSN {expected}")
        if frame.first_lsn != expected or not frame.records or frame.heads_len == 0:
            raise _corrupt(name, offset, f"a frame of LSN {frame.first_lsn}, first lost LSN {expected}")
        if frame.end > size:
            if last:
                return
            raise _corrupt(name, offset, f"frame cut off, first lost LSN {expected}")
        body = read(offset + FRAME_SIZE, frame.heads_len + frame.blob_len)
        heads, blob = body[: frame.heads_len], memoryview(body)[frame.heads_len :]
        check_frame(frame, heads, blob, name)
        yield frame, heads, blob
        offset, expected, chain = frame.end, frame.last_lsn + 1, frame.chain


def _link(before: bytes, first_lsn: int, count: int, heads: bytes, blobs: Sequence[Buffer], size: int) -> bytes:
    digest = blake3(before + _LENGTHS.pack(first_lsn, count, len(heads), size))
    digest.update(heads)
    for blob in blobs:
        if len(blob):
            digest.update(blob)
    return digest.digest(16)


def _all_zero(read: Read, offset: int, size: int) -> bool:
    """A file that grew before its data reached the disk (power loss, ext4 data=writeback) ends in zeros."""
    while offset < size:
        chunk = read(offset, min(1 << 20, size - offset))
        if not chunk or chunk.count(0) != len(chunk):
            return False
        offset += len(chunk)
    return True


def _corrupt(name: str, offset: int, what: str) -> CorruptError:
    return CorruptError(f"segment {name}, offset {offset}: {what}", remedy=REMEDY)
