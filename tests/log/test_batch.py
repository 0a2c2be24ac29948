from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livelift.errors import CorruptError
from livelift.log.batch import (
    Batch,
    batch_after,
    batch_elided,
    divided,
    heads_of,
    make_batch,
    make_stored,
    records_of,
    split_blob,
)
from livelift.log.codec import seal
from livelift.model.entry import Attributes
from livelift.model.record import OPTIONAL, RELOADABLE, BaseFile, Kind, Mark, Range, Record
from tests.log import strategies


def write(lsn: int, data: bytes) -> Record:
    return Record(Kind.WRITE, Range(5, 2, b"f", 0, len(data)), data, lsn=lsn)


def base(lsn: int, data: bytes) -> Record:
    return Record(Kind.BASE_FILE, BaseFile(6, 2, b"g", Attributes(0o100644, 0, 0, len(data), 0, 0, 0)), data, lsn=lsn)


@strategies.calm
@given(strategies.batches)
def test_round_trip(records: list[Record]) -> None:
    batch = make_batch(records)
    assert records_of(batch.heads, b"".join(batch.blobs)) == records
    assert (batch.first_lsn, batch.last_lsn, batch.count) == (1, len(records), len(records))
    assert batch.payload_size == sum(len(r.payload) for r in records)
    assert batch.size == len(batch.heads) + batch.payload_size


@strategies.calm
@given(strategies.batches)
def test_what_is_stored_is_the_batch_elided(records: list[Record]) -> None:
    batch, stored = make_stored(records)
    assert batch == make_batch(records)
    expected = batch_elided(batch)
    assert (stored.heads, stored.blobs) == (expected.heads, expected.blobs)
    assert (stored.first_lsn, stored.count, stored.payload_size) == (1, len(records), expected.payload_size)


@strategies.calm
@given(strategies.batches)
def test_elision_keeps_all_but_the_base_content(records: list[Record]) -> None:
    batch = make_batch(records)
    stored = batch_elided(batch)
    for before, after in zip(records, records_of(stored.heads, b"".join(stored.blobs)), strict=True):
        if before.kind in RELOADABLE and before.payload:
            assert after.elided and after.length == len(before.payload) and not after.payload
            assert (after.body, after.time, after.lsn) == (before.body, before.time, before.lsn)
        else:
            assert after == before
    if not any(r.kind in RELOADABLE and r.payload for r in records):
        assert stored is batch


@strategies.calm
@given(strategies.batches, st.data())
def test_the_rest_of_a_batch(records: list[Record], data: st.DataObject) -> None:
    batch = make_batch(records)
    if data.draw(st.booleans(), label="joined as from disk"):
        batch.blobs = [b"".join(batch.blobs)]
    lsn = data.draw(st.integers(0, len(records) - 1))
    rest = batch_after(batch, lsn)
    assert records_of(rest.heads, b"".join(rest.blobs)) == records[lsn:]
    assert (rest.first_lsn, rest.last_lsn) == (lsn + 1, len(records))
    assert rest.payload_size == sum(len(r.payload) for r in records[lsn:])


@pytest.mark.parametrize("lsn", [3, 6, 7])
def test_a_batch_is_not_split_outside_of_itself(lsn: int) -> None:
    with pytest.raises(ValueError, match=r"5\.\.6"):
        batch_after(make_batch([write(5, b"a"), write(6, b"b")]), lsn)


def test_payloads_are_slices_of_the_blob() -> None:
    blob = bytearray(b"aabbb")
    batch = make_batch([write(1, b"aa"), write(2, b"bbb")])
    first, second = records_of(batch.heads, blob)
    assert isinstance(second.payload, memoryview) and second.payload.obj is blob
    assert bytes(first.payload) == b"aa" and bytes(second.payload) == b"bbb"


def test_damaged_payload_is_found_unless_told_not_to_look() -> None:
    batch = make_batch([write(1, b"aa"), write(2, b"bbb")])
    with pytest.raises(CorruptError, match="payload of LSN 2"):
        records_of(batch.heads, b"aabbx")
    assert len(records_of(batch.heads, b"aabbx", verify=False)) == 2


@pytest.mark.parametrize("blob", [b"aabb", b"aabbbb", b""])
def test_a_blob_of_another_length_is_found(blob: bytes) -> None:
    batch = make_batch([write(1, b"aa"), write(2, b"bbb")])
    with pytest.raises(CorruptError):
        records_of(batch.heads, blob)


def test_lsns_out_of_order_are_neither_written_nor_read() -> None:
    with pytest.raises(ValueError, match="LSN 3"):
        make_batch([write(1, b"a"), write(3, b"b")])
    one, three = make_batch([write(1, b"a")]), make_batch([write(3, b"b")])
    with pytest.raises(CorruptError, match="LSN 3"):
        records_of(one.heads + three.heads, b"ab")


def test_an_unknown_optional_record_is_skipped_with_its_payload() -> None:
    one, three = make_batch([write(1, b"a")]), make_batch([write(3, b"c")])
    stranger = seal(OPTIONAL | 300, 0, 2, 0, 2, 0, b"\x90")
    records = records_of(one.heads + stranger + three.heads, b"abbc")
    assert [(r.lsn, bytes(r.payload)) for r in records] == [(1, b"a"), (3, b"c")]


def test_a_payload_of_zero_bytes_is_not_elided() -> None:
    batch = make_batch([base(1, b"")])
    assert batch_elided(batch) is batch
    assert not records_of(batch.heads, b"")[0].elided


def test_heads_are_walked_without_decoding() -> None:
    batch = make_batch([write(1, b"aa"), base(2, b"bbb"), Record(Kind.SYNC, Mark(), lsn=3)])
    stored = batch_elided(batch)
    assert [(h.kind, h.payload, h.elided) for h in heads_of(stored.heads)] == [(48, 2, 0), (32, 0, 1), (99, 0, 0)]
    with pytest.raises(CorruptError):
        list(heads_of(stored.heads[:-1]))


def test_a_joined_blob_is_split_again() -> None:
    batch = make_batch([write(1, b"aa"), base(2, b""), write(3, b"b")])
    assert [bytes(b) for b in split_blob(batch.heads, b"aab")] == [b"aa", b"b"]
    with pytest.raises(CorruptError):
        split_blob(batch.heads, b"aabx")


@strategies.calm
@given(strategies.batches, st.integers(1, 2000), st.integers(1, 2000), st.booleans())
def test_pieces_are_the_whole_and_keep_to_the_limits(records: list[Record], heads: int, payload: int, joined: bool):
    batch = make_batch(records)
    if joined and batch.blobs:
        batch = Batch(batch.first_lsn, batch.count, batch.heads, [b"".join(batch.blobs)])
    pieces = list(divided(batch, heads, payload))
    found = [record for piece in pieces for record in records_of(piece.heads, b"".join(piece.blobs))]
    assert found == records
    assert [piece.first_lsn for piece in pieces] == [1, *(piece.last_lsn + 1 for piece in pieces[:-1])]
    for piece in pieces:
        assert piece.payload_size == sum(map(len, piece.blobs))
        assert piece.count == 1 or (len(piece.heads) <= heads and piece.payload_size <= payload)
    for one, other in itertools.pairwise(pieces):
        head = next(heads_of(other.heads))
        fits = len(one.heads) + head.end <= heads and one.payload_size + head.payload <= payload
        assert not fits, "as few as can be"


def test_what_keeps_to_the_limits_is_not_copied():
    batch = make_batch([write(1, b"x" * 100), write(2, b"y" * 100)])
    assert list(divided(batch, len(batch.heads), 200)) == [batch]
    assert next(divided(batch, len(batch.heads), 200)) is batch
    assert [piece.payload_size for piece in divided(batch, len(batch.heads), 199)] == [100, 100]
