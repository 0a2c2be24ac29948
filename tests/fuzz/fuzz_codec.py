"""Hostile bytes into every parser of the log: only LiveliftError comes out, and no more memory than bytes came in.

    python -m pytest tests/fuzz/fuzz_codec.py            a short run
    FUZZ_EXAMPLES=1000000 python -m pytest ...           a long one
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livelift.errors import LiveliftError
from livelift.log.batch import batch_after, batch_elided, heads_of, make_batch, records_of
from livelift.log.codec import decode_head, encode_head, seal
from livelift.log.segment import (
    HEADER_SIZE,
    NO_PREVIOUS,
    SegmentHeader,
    chain_start,
    frames_of,
    pack_frame,
    pack_header,
    unpack_header,
)
from livelift.log.show import show
from livelift.model.record import BODY_OF, Record
from tests.log import strategies

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
hard = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)

packed = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.binary() | st.text(),
    lambda inner: st.lists(inner, max_size=14) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)


@st.composite
def mutated(draw: st.DrawFn, good: bytes) -> bytes:
    """Some bytes replaced, cut out or put in."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        data[place : place + draw(st.integers(0, 9))] = draw(st.binary(max_size=9))
    return bytes(data)


def decode(data: bytes) -> None:
    with suppress(LiveliftError):
        record, *_ = decode_head(data, 0)
        if record is not None:
            assert decode_head(encode_head(record), 0)[0] == record
            show(record)


@hard
@given(st.binary(max_size=200))
def test_head_of_any_bytes(data: bytes) -> None:
    decode(data)
    if len(data) >= 4:
        decode(struct.pack("<I", len(data)) + data[4:])


@hard
@given(st.data(), strategies.records)
def test_head_damaged(data: st.DataObject, record: Record) -> None:
    decode(data.draw(mutated(encode_head(record))))


@hard
@given(st.sampled_from([int(kind) for kind in BODY_OF]) | st.integers(0, 65535), st.integers(0, 3), packed, st.binary())
def test_head_with_good_checksum_and_any_body(kind: int, flags: int, value: object, junk: bytes) -> None:
    for body in (msgspec.msgpack.encode(value), junk):
        decode(seal(kind, flags, 1, 0, 5, 0, body))


@hard
@given(st.data(), strategies.batches)
def test_batch_damaged(data: st.DataObject, records: list[Record]) -> None:
    batch = make_batch(records)
    blob = b"".join(batch.blobs)
    with suppress(LiveliftError):
        found = records_of(data.draw(mutated(batch.heads)), data.draw(st.just(blob) | mutated(blob)))
        assert found in [records[: len(found)], records[-len(found) :]], "damage was decoded"
    with suppress(LiveliftError):
        list(heads_of(data.draw(mutated(batch.heads))))


@hard
@given(st.binary(max_size=300), st.binary(max_size=100))
def test_batch_of_any_bytes(heads: bytes, blob: bytes) -> None:
    for call in (lambda: records_of(heads, blob), lambda: list(heads_of(heads))):
        with suppress(LiveliftError):
            call()


@hard
@given(strategies.batches, st.data())
def test_batches_cut_and_elided_in_any_order_decode(records: list[Record], data: st.DataObject) -> None:
    batch = make_batch(records)
    lsn = data.draw(st.integers(0, len(records) - 1))
    one, two = batch_after(batch_elided(batch), lsn), batch_elided(batch_after(batch, lsn))
    assert one.heads == two.heads and b"".join(one.blobs) == b"".join(two.blobs)
    for record in records_of(one.heads, b"".join(one.blobs)):
        assert show(record, content=5)["lsn"] == record.lsn


@hard
@given(st.data(), st.lists(strategies.batches, min_size=1, max_size=3), st.booleans())
def test_segment_damaged(data: st.DataObject, batches: list[list[Record]], last: bool) -> None:
    good = raw = pack_header(SegmentHeader("job", 1, 1, NO_PREVIOUS))
    chain, lsn, originals = chain_start(raw), 1, []
    for records in batches:
        batch = make_batch(strategies.numbered(records, lsn))
        blob = b"".join(batch.blobs)
        head, chain = pack_frame(chain, lsn, batch.count, batch.heads, [blob])
        good += head + batch.heads + blob
        lsn += batch.count
        originals += records
    bad = data.draw(mutated(good) | st.binary(max_size=300).map(lambda junk: raw + junk))

    def read(offset: int, length: int) -> bytes:
        assert 0 <= length <= len(bad)
        return bad[offset : offset + length]

    found: list[Record] = []
    with suppress(LiveliftError):
        header = unpack_header(bad, "x")
        for _, heads, blob in frames_of(read, len(bad), "x", header, bad[:HEADER_SIZE], last):
            found += records_of(heads, blob)
    assert found == originals[: len(found)], "damage was applied"
