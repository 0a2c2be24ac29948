from __future__ import annotations

import struct

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livelift.errors import WireError
from livelift.protocol.frames import (
    HEADER_SIZE,
    MAX_BLOB,
    MAX_HEADS,
    ZSTD_BLOB,
    ZSTD_HEADS,
    FrameKind,
    Header,
    build,
    message_header,
    parse,
)

PLAIN = Header(FrameKind.BATCH, 0, 7, 100, 3, 300, 300, 1 << 20, 1 << 20)


def forged(header: Header, magic: bytes = b"LLF1", reserved: int = 0) -> bytes:
    """A header with a right checksum whatever it says."""
    kind, flags, *rest = header
    fields = magic + struct.pack("<BBHQQIIIII", kind, flags, reserved, *rest)
    return fields + struct.pack("<I", google_crc32c.value(fields))


def test_layout_is_the_documented_one():
    data = build(PLAIN)
    assert len(data) == HEADER_SIZE == 48
    assert data == forged(PLAIN)
    assert parse(data) == parse(bytearray(data)) == parse(memoryview(data)) == PLAIN


def test_message_header():
    header = parse(message_header(55, 9))
    assert (header.kind, header.heads_raw, header.blob_raw, header.sequence) == (FrameKind.MESSAGE, 55, 0, 9)
    assert header.wire_size == 48 + 55


BAD = {
    "heads too large": PLAIN._replace(heads_wire=MAX_HEADS + 1, heads_raw=MAX_HEADS + 1),
    "blob too large": PLAIN._replace(blob_wire=MAX_BLOB + 1, blob_raw=MAX_BLOB + 1),
    "packed into a huge blob": PLAIN._replace(flags=ZSTD_BLOB, blob_wire=10, blob_raw=MAX_BLOB + 1),
    "packed larger than plain": PLAIN._replace(flags=ZSTD_HEADS, heads_wire=301),
    "packed to nothing": PLAIN._replace(flags=ZSTD_HEADS, heads_wire=0),
    "plain but sizes differ": PLAIN._replace(blob_wire=5),
    "unknown flag": PLAIN._replace(flags=4),
    "unknown kind": PLAIN._replace(kind=3),
    "no heads": PLAIN._replace(heads_wire=0, heads_raw=0),
    "no records": PLAIN._replace(records=0),
    "LSN 0": PLAIN._replace(first_lsn=0),
    "LSN overflow": PLAIN._replace(first_lsn=(1 << 64) - 2),
    "message with blob": PLAIN._replace(kind=FrameKind.MESSAGE, first_lsn=0, records=0),
    "message with LSN": Header(FrameKind.MESSAGE, 0, 0, 1, 0, 5, 5, 0, 0),
}


@pytest.mark.parametrize("header", BAD.values(), ids=BAD.keys())
def test_bad_headers_are_refused(header):
    with pytest.raises(WireError):
        parse(forged(header))


@pytest.mark.parametrize("name", [name for name in BAD if name != "unknown kind"])
def test_they_are_not_built_either(name):
    with pytest.raises(WireError):
        build(BAD[name])


def test_magic_reserved_length_and_checksum():
    for data in (forged(PLAIN, b"HTTP"), forged(PLAIN, reserved=1), build(PLAIN)[:-1], b""):
        with pytest.raises(WireError):
            parse(data)


@given(st.integers(0, HEADER_SIZE * 8 - 1))
def test_every_flipped_bit_is_noticed(bit):
    data = bytearray(build(PLAIN))
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(WireError):
        parse(data)
