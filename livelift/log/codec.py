"""One record as bytes: a fixed header, then the body in MessagePack. The payload travels apart (see `batch`).

    head_len u32 | kind u16 | flags u16 | lsn u64 | time i64 | payload_len u32 | payload_crc u32 | head_crc u32 | body

Little endian. ``head_len`` counts header and body. ``head_crc`` is the CRC32C of both with itself taken as zero;
``payload_crc`` that of the payload, 0 when there is none. Flag ELIDED: the payload had ``payload_len`` bytes, none is
here. The body is an array in the field order of its struct: new fields go to the end and have a default.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import google_crc32c
import msgspec

from livelift.errors import CorruptError, StoreError, WireError
from livelift.log.crc import Buffer, crc32c
from livelift.model.record import BODY_OF, OPTIONAL, Kind, Record

HEADER: Final = struct.Struct("<IHHQqIII")
HEADER_SIZE: Final = HEADER.size
ELIDED: Final = 1
MAX_HEAD: Final = 16 * 1024 * 1024
"""Bound for hostile input. The largest honest body: a file's full set of xattrs (64 KiB each, xattr(7))."""
MAX_PAYLOAD: Final = 0xFFFFFFFF

_PREFIX = struct.Struct("<IHHQqII")  # the header without its CRC
_CRC = struct.Struct("<I")
_NO_CRC = bytes(4)
_encode_body = msgspec.msgpack.Encoder().encode
_value = google_crc32c.value
_extend = google_crc32c.extend
_DECODE: Final[dict[int, tuple[Kind, Any]]] = {
    int(kind): (kind, msgspec.msgpack.Decoder(body).decode) for kind, body in BODY_OF.items()
}


def encode_head(record: Record) -> bytes:
    """Header and body of a record. TypeError: the body is not the kind's. StoreError: larger than the format allows."""
    kind = record.kind
    body = record.body
    if type(body) is not BODY_OF[kind]:
        raise TypeError(f"{kind!r} takes a {BODY_OF[kind].__name__}, not {type(body).__name__}")
    payload = record.payload
    if record.elided:
        return seal(kind, ELIDED, record.lsn, record.time, record.length, 0, _encode_body(body))
    return seal(kind, 0, record.lsn, record.time, len(payload), crc32c(payload) if payload else 0, _encode_body(body))


def seal(kind: int, flags: int, lsn: int, time: int, payload_len: int, payload_crc: int, body: bytes) -> bytes:
    """A head made of its parts, with its checksum."""
    size = HEADER_SIZE + len(body)
    if size > MAX_HEAD or payload_len > MAX_PAYLOAD:
        raise StoreError(f"record too large: head {size} bytes, payload {payload_len} bytes")
    prefix = _PREFIX.pack(size, kind, flags, lsn, time, payload_len, payload_crc)
    return prefix + _CRC.pack(_extend(_value(prefix + _NO_CRC), body)) + body


def decode_head(buffer: Buffer, offset: int) -> tuple[Record | None, int, int, int]:
    """(record without its payload, payload bytes that follow in the blob, their CRC, offset of the next head).

    An elided record has no bytes in the blob: 0, and `Record.length` tells how long the payload was. None stands for a
    kind that is unknown but optional. CorruptError: damaged, with the offset. WireError: unknown and required.
    """
    if len(buffer) - offset < HEADER_SIZE:
        raise CorruptError(f"record head at offset {offset} is cut off")
    size, number, flags, lsn, time, payload_len, payload_crc, head_crc = HEADER.unpack_from(buffer, offset)
    end = offset + size
    if not HEADER_SIZE <= size <= MAX_HEAD or end > len(buffer):
        raise CorruptError(f"record head at offset {offset} claims {size} bytes")
    raw = bytes(buffer[offset:end])
    body = raw[HEADER_SIZE:]
    if _extend(_value(raw[: _PREFIX.size] + _NO_CRC), body) != head_crc:
        raise CorruptError(f"record head at offset {offset}: checksum mismatch")
    if flags & ~ELIDED:
        raise WireError(f"record at offset {offset} has unknown flags {flags:#x}")
    known = _DECODE.get(number)
    if known is None:
        if number & OPTIONAL:
            return None, 0 if flags else payload_len, payload_crc, end
        raise WireError(f"record at offset {offset} is of unknown kind {number}; the sender is newer")
    kind, decode = known
    try:
        decoded = decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptError(f"record body at offset {offset} ({kind.name}): {error}") from error
    if flags:
        return Record(kind, decoded, b"", time, lsn, True, payload_len), 0, 0, end
    return Record(kind, decoded, b"", time, lsn), payload_len, payload_crc, end
