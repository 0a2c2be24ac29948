"""One record as bytes: a fixed header, then the body in MessagePack. The payload travels apart (see `batch`).

    head_len u32 | kind u16 | flags u16 | lsn u64 | time i64 | payload_len u32 | payload_crc u32 | head_crc u32 | body

Little endian. ``head_len`` counts header and body. ``head_crc`` is the CRC32C of both with itself taken as zero;
``payload_crc`` that of the payload, 0 when there is none. Flag ELIDED: the payload had ``payload_len`` bytes, none is
here. From bit 4 on the flags count the further records of a page (`pages`). The body is an array in the field order of
its struct: new fields go to the end and have a default.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import google_crc32c
import msgspec

from livelift.errors import CorruptError, StoreError, WireError
from livelift.log.crc import Buffer, crc32c
from livelift.log.pages import MOST, Page, files_of, size_of
from livelift.model.record import BODY_OF, OPTIONAL, Kind, Record

HEADER: Final = struct.Struct("<IHHQqIII")
HEADER_SIZE: Final = HEADER.size
ELIDED: Final = 1
FURTHER: Final = 4
"""The lowest bit of the flags that count further records."""
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


def encode_head(item: Record | Page) -> bytes:
    """Header and body of a record or page. TypeError: the body is not the kind's. StoreError: larger than the format
    allows."""
    if isinstance(item, Page):
        if not 0 < item.count <= MOST:
            raise StoreError(f"a page of {item.count} records")
        return seal(item.kind, item.count - 1 << FURTHER, item.lsn, item.time, len(item.payload), item.crc, item.body)
    kind = item.kind
    body = item.body
    if type(body) is not BODY_OF[kind]:
        raise TypeError(f"{kind!r} takes a {BODY_OF[kind].__name__}, not {type(body).__name__}")
    payload = item.payload
    if item.elided:
        return seal(kind, ELIDED, item.lsn, item.time, item.length, 0, _encode_body(body))
    return seal(kind, 0, item.lsn, item.time, len(payload), crc32c(payload) if payload else 0, _encode_body(body))


def seal(kind: int, flags: int, lsn: int, time: int, payload_len: int, payload_crc: int, body: bytes) -> bytes:
    """A head made of its parts, with its checksum."""
    size = HEADER_SIZE + len(body)
    if size > MAX_HEAD or payload_len > MAX_PAYLOAD:
        raise StoreError(f"record too large: head {size} bytes, payload {payload_len} bytes")
    prefix = _PREFIX.pack(size, kind, flags, lsn, time, payload_len, payload_crc)
    return prefix + _CRC.pack(_extend(_value(prefix + _NO_CRC), body)) + body


def decode_head(buffer: Buffer, offset: int) -> tuple[list[Record], int, int, int]:
    """(records without their payload, payload bytes that follow in the blob, their CRC, offset of the next head).

    One record, or those of a page. An elided one has no bytes in the blob: 0, and `Record.length` tells how long the
    payload was. None at all stands for a kind that is unknown but optional. CorruptError: damaged, with the offset.
    WireError: unknown and required.
    """
    if len(buffer) - offset < HEADER_SIZE:
        raise CorruptError(f"record head at offset {offset} is cut off")
    size, number, flags, lsn, time, payload_len, payload_crc, head_crc = HEADER.unpack_from(buffer, offset)
    end = offset + size
    if not HEADER_SIZE <= size <= MAX_HEAD or end > len(buffer):
        raise CorruptError(f"record head at offset {offset} claims {size} bytes")
    body = bytes(buffer[offset + HEADER_SIZE : end])
    if _extend(_value(bytes(buffer[offset : offset + _PREFIX.size]) + _NO_CRC), body) != head_crc:
        raise CorruptError(f"record head at offset {offset}: checksum mismatch")
    further = flags >> FURTHER
    elided = flags & ELIDED
    if flags & (1 << FURTHER) - 1 & ~ELIDED or (further and number != Kind.BASE_FILE):
        raise WireError(f"record at offset {offset} has unknown flags {flags:#x}")
    known = _DECODE.get(number)
    if known is None:
        if number & OPTIONAL:
            return [], 0 if elided else payload_len, payload_crc, end
        raise WireError(f"record at offset {offset} is of unknown kind {number}; the sender is newer")
    kind, decode = known
    try:
        if further:
            records = _page(body, further + 1, lsn, time, payload_len, bool(elided))
        elif elided:
            records = [Record(kind, decode(body), b"", time, lsn, True, payload_len)]
        else:
            records = [Record(kind, decode(body), b"", time, lsn)]
    except (msgspec.DecodeError, msgspec.ValidationError, ValueError, RecursionError) as error:
        raise CorruptError(f"record body at offset {offset} ({kind.name}): {error}") from error
    return records, 0 if elided else payload_len, 0 if elided else payload_crc, end


def _page(body: bytes, count: int, lsn: int, time: int, payload_len: int, elided: bool) -> list[Record]:
    files = files_of(body, count)
    sizes = [size_of(file) for file in files]
    if sum(sizes) != payload_len or min(sizes) < 0:
        raise ValueError(f"{count} files of {sum(sizes)} bytes in a page of {payload_len}")
    if not elided:
        return [Record(Kind.BASE_FILE, file, b"", time, at) for at, file in enumerate(files, lsn)]
    return [
        Record(Kind.BASE_FILE, file, b"", time, at, size > 0, size)
        for at, (file, size) in enumerate(zip(files, sizes, strict=True), lsn)
    ]
