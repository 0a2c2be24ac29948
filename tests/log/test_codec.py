from __future__ import annotations

import struct

import google_crc32c
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livelift.errors import CorruptError, StoreError, WireError
from livelift.log.codec import HEADER, HEADER_SIZE, decode_head, encode_head, seal
from livelift.log.crc import crc32c, ensure_fast_crc
from livelift.model.record import OPTIONAL, Gap, Kind, Mark, Range, Record
from tests.log import strategies

WRITE = Record(Kind.WRITE, Range(5, 2, b"file", 4096, 4), b"data", time=7, lsn=3)


@pytest.mark.parametrize("kind", list(Kind))
@strategies.calm
@given(data=st.data())
def test_round_trip_of_every_kind(kind: Kind, data: st.DataObject) -> None:
    record = data.draw(strategies.of_kind(kind))
    decoded, length, crc, end = decode_head(raw := encode_head(record), 0)
    assert end == len(raw)
    assert length == len(record.payload)
    assert crc == google_crc32c.value(bytes(record.payload)) * bool(record.payload)
    assert decoded is not None
    decoded.payload = record.payload
    assert decoded == record


def test_the_header_is_laid_out_as_documented() -> None:
    raw = encode_head(WRITE)
    assert HEADER_SIZE == 36
    size, kind, flags, lsn, time, length, payload_crc, _ = struct.unpack_from("<IHHQqIII", raw)
    assert (size, kind, flags, lsn, time, length) == (len(raw), 48, 0, 3, 7, 4)
    assert payload_crc == google_crc32c.value(b"data")
    assert msgspec.msgpack.decode(raw[36:]) == [5, 2, b"file", 4096, 4, 0]
    cleared = raw[:32] + bytes(4) + raw[36:]
    assert struct.unpack_from("<I", raw, 32)[0] == google_crc32c.value(cleared)


def test_every_flipped_bit_is_found() -> None:
    raw = encode_head(WRITE)
    for bit in range(len(raw) * 8):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptError):
            decode_head(damaged, 0)


def test_every_cut_is_found() -> None:
    raw = encode_head(WRITE)
    for size in range(len(raw)):
        with pytest.raises(CorruptError, match="offset 0"):
            decode_head(raw[:size], 0)


def test_damage_is_named_by_its_offset() -> None:
    raw = bytearray(encode_head(WRITE) * 2)
    raw[-1] ^= 1
    _, _, _, second = decode_head(raw, 0)
    with pytest.raises(CorruptError, match=f"offset {second}"):
        decode_head(raw, second)


@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.BASE_FILE])
@pytest.mark.parametrize("wrong", [b"", b"\xc1", b"\x92\x01\x02", b"\x93\x01\x02\xa1x", b"\x91" * 5000])
def test_a_body_that_is_not_the_kinds_is_corrupt(kind: Kind, wrong: bytes) -> None:
    with pytest.raises(CorruptError, match=kind.name):
        decode_head(seal(kind, 0, 1, 0, 0, 0, wrong), 0)


def test_an_unknown_optional_kind_is_skipped_with_its_payload() -> None:
    raw = seal(OPTIONAL | 200, 0, 9, 0, 4, google_crc32c.value(b"data"), b"\x90")
    assert decode_head(raw + b"next", 0) == (None, 4, google_crc32c.value(b"data"), len(raw))


@pytest.mark.parametrize(("kind", "flags"), [(200, 0), (int(Kind.WRITE), 2)])
def test_an_unknown_required_kind_or_flag_stops(kind: int, flags: int) -> None:
    with pytest.raises(WireError, match="unknown"):
        decode_head(seal(kind, flags, 1, 0, 0, 0, b"\x90"), 0)


def test_fields_that_a_newer_release_adds_at_the_end_are_ignored() -> None:
    record, *_ = decode_head(seal(Kind.SYNC, 0, 1, 0, 0, 0, msgspec.msgpack.encode(["a", 1, [2]])), 0)
    assert record is not None and record.body == Mark("a")


def test_a_body_of_another_kind_is_not_written() -> None:
    with pytest.raises(TypeError, match="takes a Range"):
        encode_head(Record(Kind.WRITE, Gap(1, "x"), lsn=1))


def test_a_head_that_no_reader_would_take_is_not_written() -> None:
    with pytest.raises(StoreError, match="too large"):
        encode_head(Record(Kind.GAP, Gap(1, "x" * (16 << 20)), lsn=1))


@given(st.binary(max_size=300), st.integers(0, 3))
def test_crc_is_the_same_for_every_kind_of_buffer(data: bytes, times: int) -> None:
    data = data * 4**times * 100  # beyond and within one chunk
    expected = google_crc32c.value(data)
    assert crc32c(data) == crc32c(bytearray(data)) == crc32c(memoryview(data)) == expected


def test_crc32c_is_the_castagnoli_polynomial() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720 B.4, the usual check value


def test_a_slow_crc_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_fast_crc()
    monkeypatch.setattr(google_crc32c, "implementation", "python")
    with pytest.raises(StoreError, match="no C implementation"):
        ensure_fast_crc()


def test_decoding_starts_anywhere_in_a_buffer() -> None:
    raw = encode_head(WRITE)
    record, _, _, end = decode_head(memoryview(b"xxxxx" + raw), 5)
    assert record is not None and record.body == WRITE.body
    assert end == 5 + len(raw)
    assert HEADER.unpack_from(raw)[3] == 3
