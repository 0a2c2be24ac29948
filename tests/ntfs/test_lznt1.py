"""LZNT1: the example of the specification, and input that somebody made up."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livelift.ntfs.errors import NtfsError
from livelift.ntfs.lznt1 import decompress

MELODY = (
    b"F# F# G A A G F# E D D E F# F# E E F# F# G A A G F# E D D E F# E D D E E F# D E F# G F# D E F# G F# E D E A "
    b"F# F# G A A G F# E D D E F# E D D\0"
)
PACKED = bytes.fromhex(
    "38b08846232000204720410010a24701a045204400084501507900c045200524138805b4024a44ef0358028c0916014845"
    "00be009e00040118900000"[:-2]
)
"""MS-XCA 3.3."""


def test_the_example_of_the_specification() -> None:
    assert decompress(PACKED, 4096) == MELODY


def test_a_run_of_one_byte_overlaps_itself() -> None:
    token = struct.pack("<H", 4000 - 3)  # distance 1
    chunk = b"\x02a" + token
    assert decompress(struct.pack("<H", 0xB000 | len(chunk) - 1) + chunk, 65536) == b"a" * 4001


def test_chunks_that_did_not_shrink_are_stored() -> None:
    data = bytes(range(256)) * 16
    stored = struct.pack("<H", 0x3FFF) + data
    assert decompress(stored + stored, 65536) == data * 2
    assert decompress(stored + stored, 5000) == (data * 2)[:5000]


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<H", 0xB00F) + b"short",
        struct.pack("<H", 0xB002) + b"\x01\x00\x00",  # a back reference as the first thing
        struct.pack("<H", 0xB003) + b"\x02a\xff\xff",  # 4096 back when there is one byte
        struct.pack("<H", 0xB002) + b"\x02a\x00",  # half a back reference
        struct.pack("<H", 0xB003) + b"\x02a" + struct.pack("<H", 0xFFF),  # one byte more than a chunk holds
    ],
)
def test_damage_is_told(data: bytes) -> None:
    with pytest.raises(NtfsError):
        decompress(data, 65536)


@given(st.binary(max_size=300), st.integers(0, 9000))
def test_anything_ends_within_its_limit(data: bytes, limit: int) -> None:
    try:
        assert len(decompress(data, limit)) <= limit
    except NtfsError:
        pass
