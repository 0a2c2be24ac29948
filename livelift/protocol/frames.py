"""The frame: a header of fixed size, then heads, then blob. Pure: parses and builds headers, checks every limit.

    0   u32  magic "LLF1"            24  u32  count (records)
    4   u8   kind                    28  u32  heads, bytes on the wire
    5   u8   flags                   32  u32  heads, bytes unpacked
    6   u16  reserved, 0             36  u32  blob, bytes on the wire
    8   u64  sequence                40  u32  blob, bytes unpacked
    16  u64  first LSN               44  u32  CRC32C of bytes 0..43

Little-endian. ``sequence`` numbers the batches of a channel from 0 over all its lanes; in a message frame it is the
number of batches sent before. A message frame carries the message as its heads and nothing else. TLS protects the
bytes on the way and every record has a CRC32C of its own, so only the header is summed: it makes losing step
unmistakable.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

import google_crc32c

from livelift.errors import WireError

HEADER_SIZE: Final = 48
MAX_HEADS: Final = 8 << 20
MAX_BLOB: Final = 8 << 20
MAGIC: Final = int.from_bytes(b"LLF1", "little")

ZSTD_HEADS: Final = 1
ZSTD_BLOB: Final = 2

_FIELDS: Final = struct.Struct("<IBBHQQIIIII")
_SUM: Final = struct.Struct("<I")


class FrameKind(IntEnum):
    MESSAGE = 1
    BATCH = 2


class Header(NamedTuple):
    kind: FrameKind
    flags: int
    sequence: int
    first_lsn: int
    records: int
    heads_wire: int
    heads_raw: int
    blob_wire: int
    blob_raw: int

    @property
    def wire_size(self) -> int:
        return HEADER_SIZE + self.heads_wire + self.blob_wire


def build(header: Header) -> bytes:
    """The 48 bytes. Raises WireError for what the peer would refuse."""
    _check(header)
    kind, flags, sequence, *rest = header
    fields = _FIELDS.pack(MAGIC, kind, flags, 0, sequence, *rest)
    return fields + _SUM.pack(google_crc32c.value(fields))


def message_header(size: int, sequence: int) -> bytes:
    return build(Header(FrameKind.MESSAGE, 0, sequence, 0, 0, size, size, 0, 0))


def parse(data: bytes | bytearray | memoryview) -> Header:
    """Header of exactly 48 bytes. Raises WireError before anything is allocated for the frame."""
    if len(data) != HEADER_SIZE:
        raise WireError(f"a frame header has {HEADER_SIZE} bytes, not {len(data)}")
    magic, kind, flags, reserved, *rest = _FIELDS.unpack_from(data)
    if magic != MAGIC:
        raise WireError("not a Livelift frame")
    if _SUM.unpack_from(data, HEADER_SIZE - 4)[0] != google_crc32c.value(bytes(data[: HEADER_SIZE - 4])):
        raise WireError("frame header fails its checksum")
    if reserved:
        raise WireError("reserved header field in use: the peer speaks a later protocol")
    try:
        known = FrameKind(kind)
    except ValueError:
        raise WireError(f"unknown frame kind {kind}") from None
    header = Header(known, flags, *rest)
    _check(header)
    return header


def _check(header: Header) -> None:
    kind, flags, sequence, first_lsn, count, heads_wire, heads_raw, blob_wire, blob_raw = header
    if flags & ~(ZSTD_HEADS | ZSTD_BLOB):
        raise WireError(f"unknown frame flags {flags:#x}")
    if heads_raw > MAX_HEADS or blob_raw > MAX_BLOB:
        raise WireError(f"frame too large: heads {heads_raw}, blob {blob_raw} bytes")
    # A packed part must be smaller than the plain one: so no allocation ever exceeds the limits above.
    if not _fits(heads_wire, heads_raw, flags & ZSTD_HEADS) or not _fits(blob_wire, blob_raw, flags & ZSTD_BLOB):
        raise WireError(f"frame sizes contradict: heads {heads_wire}/{heads_raw}, blob {blob_wire}/{blob_raw} bytes")
    if not heads_raw:
        raise WireError("empty frame")
    if not 0 <= sequence < 1 << 64:
        raise WireError(f"bad frame sequence {sequence}")
    if kind is FrameKind.MESSAGE:
        if blob_raw or first_lsn or count:
            raise WireError("a message frame with batch fields")
    elif not 1 <= count < 1 << 32 or not 1 <= first_lsn <= (1 << 64) - count:
        raise WireError(f"bad batch: first LSN {first_lsn}, {count} records")


def _fits(wire: int, raw: int, packed: int) -> bool:
    return 0 < wire < raw if packed else wire == raw
