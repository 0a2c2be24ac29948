from __future__ import annotations

from collections.abc import Callable

import pytest

from livelift.errors import CorruptError, LiveliftError, VersionError
from livelift.log.batch import make_batch, records_of
from livelift.log.segment import (
    FRAME_SIZE,
    HEADER_SIZE,
    NO_PREVIOUS,
    SegmentHeader,
    chain_start,
    crc32c,
    frames_of,
    pack_frame,
    pack_header,
    seal_segment,
    unpack_header,
)
from livelift.model.record import Kind, Range, Record

HEADER = SegmentHeader("ab12", 10, 10, NO_PREVIOUS)


def build(frames: int = 3, header: SegmentHeader = HEADER) -> tuple[bytes, list[int]]:
    """A segment of frames of two records each, and the offset behind each frame."""
    raw = data = pack_header(header)
    chain, ends = chain_start(raw), []
    for first in range(header.first_lsn, header.first_lsn + 2 * frames, 2):
        batch = make_batch(
            [Record(Kind.WRITE, Range(7, 2, b"f", lsn, 3), b"abc", lsn=lsn) for lsn in (first, first + 1)]
        )
        head, chain = pack_frame(chain, batch.first_lsn, batch.count, batch.heads, batch.blobs)
        data += head + batch.heads + b"".join(batch.blobs)
        ends.append(len(data))
    return data, ends


def read(data: bytes, last: bool = True) -> list[int]:
    """LSNs of all records of a segment."""
    header = unpack_header(data, "x")
    lsns = []
    for frame, heads, blob in frames_of(reader(data), len(data), "x", header, data[:HEADER_SIZE], last):
        records = records_of(heads, blob)
        assert [r.lsn for r in records] == list(range(frame.first_lsn, frame.last_lsn + 1))
        lsns += [r.lsn for r in records]
    return lsns


def reader(data: bytes) -> Callable[[int, int], bytes]:
    def at(offset: int, length: int) -> bytes:
        assert 0 <= length <= len(data), "asks for more than the file has"
        return data[offset : offset + length]

    return at


def test_round_trip() -> None:
    data, _ = build()
    assert unpack_header(data, "x") == HEADER
    assert read(data) == read(data, last=False) == [10, 11, 12, 13, 14, 15]


def test_a_header_needs_its_job_to_fit() -> None:
    assert unpack_header(pack_header(HEADER._replace(job="j" * 60)), "x").job == "j" * 60
    with pytest.raises(ValueError, match="60"):
        pack_header(HEADER._replace(job="j" * 61))


def test_every_flipped_bit_is_found() -> None:
    data, _ = build(2)
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptError, match="segment x, offset"):
            read(bytes(damaged))


def test_a_torn_tail_ends_the_newest_segment_only() -> None:
    data, ends = build()
    for size in range(HEADER_SIZE, len(data)):
        whole = sum(end <= size for end in ends)
        assert read(data[:size]) == list(range(10, 10 + 2 * whole))
        if size not in (HEADER_SIZE, *ends):
            with pytest.raises(CorruptError, match=f"first lost LSN {10 + 2 * whole}"):
                read(data[:size], last=False)


def test_zeros_at_the_end_are_a_torn_tail() -> None:
    data, _ = build()
    assert read(data + bytes(5000)) == [10, 11, 12, 13, 14, 15]
    with pytest.raises(CorruptError, match="first lost LSN 16"):
        read(data + bytes(5000) + b"x")
    with pytest.raises(CorruptError, match="first lost LSN 16"):
        read(data + bytes(5000), last=False)


def test_removed_repeated_and_swapped_frames_are_found() -> None:
    data, (a, b, c) = build()
    start, first, second, third = data[:HEADER_SIZE], data[HEADER_SIZE:a], data[a:b], data[b:c]
    for frames, lost in (((first, third), 12), ((second, third), 10), ((first, first), 12), ((second, first), 10)):
        with pytest.raises(CorruptError, match=f"first lost LSN {lost}"):
            read(start + b"".join(frames))


def test_a_frame_of_another_segment_is_found() -> None:
    data, ends = build()
    other, _ = build(header=HEADER._replace(job="cd34"))
    with pytest.raises(CorruptError, match="hash chain broken, first lost LSN 12"):
        read(data[: ends[0]] + other[ends[0] :])


def test_segments_are_linked_by_header_and_chain() -> None:
    seals = {seal_segment(header, chain) for header in (b"a" * 128, b"b" * 128) for chain in (b"c" * 16, b"d" * 16)}
    assert len(seals) == 4 and {len(seal) for seal in seals} == {32}


def test_another_format_is_a_version_error() -> None:
    raw = bytearray(pack_header(HEADER))
    raw[8] = 2
    raw[-4:] = crc32c(bytes(raw[:-4])).to_bytes(4, "little")
    with pytest.raises(VersionError, match="format 2"):
        unpack_header(bytes(raw), "x")


def test_a_frame_that_claims_more_than_the_file_has_is_not_read() -> None:
    data, _ = build(0)
    head, _ = pack_frame(chain_start(data), 10, 1, b"h", [])
    huge = bytearray(head)
    huge[16:24] = b"\xff" * 8  # heads_len and blob_len: 8 GiB
    huge[-4:] = crc32c(bytes(huge[:-4])).to_bytes(4, "little")
    assert len(huge) == FRAME_SIZE
    assert read(data + bytes(huge)) == []  # reader() would fail on the request
    with pytest.raises(LiveliftError, match="cut off, first lost LSN 10"):
        read(data + bytes(huge), last=False)
