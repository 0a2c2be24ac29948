from __future__ import annotations

import struct

import pytest

from livelift.errors import HiveError
from livelift.registry.base_block import BLOCK, BaseBlock, checksum, pack, unpack
from tests.registry.raw import base_block, sealed


def test_it_is_read_as_it_was_put_together() -> None:
    block = unpack(base_block(8192, 32, minor=3, sequences=(5, 4)))
    assert (block.sequence1, block.sequence2, block.minor, block.size, block.root) == (5, 4, 3, 8192, 32)
    assert (block.file_name, block.checked, block.clean) == ("by hand", True, False)
    assert unpack(base_block(8192, 32)).clean


def test_what_is_packed_is_what_was_put_together_by_hand() -> None:
    by_hand = base_block(8192, 32, sequences=(9, 9))
    assert pack(unpack(by_hand)) == by_hand
    assert len(by_hand) == BLOCK


def test_of_a_long_name_the_end_is_kept() -> None:
    block = BaseBlock(1, 1, 0, 5, 0, 32, 4096, "\\SystemRoot\\System32\\Config\\" + "x" * 20)
    assert unpack(pack(block)).file_name == ("\\SystemRoot\\System32\\Config\\" + "x" * 20)[-31:]


@pytest.mark.parametrize(("word", "stored"), [(0, 1), (0xFFFFFFFF, 0xFFFFFFFE), (0x12345678, 0x12345678)])
def test_the_checksum_is_never_all_zeros_or_all_ones(word: int, stored: int) -> None:
    assert checksum(struct.pack("<I", word) + bytes(508)) == stored


@pytest.mark.parametrize(
    ("at", "word"), [(0, 0x66676572 + 1), (20, 2), (24, 2), (24, 7), (32, 0), (44, 3)]
)  # fmt: skip
def test_another_format_is_refused(at: int, word: int) -> None:
    block = bytearray(base_block(4096, 32))
    block[at : at + 4] = word.to_bytes(4, "little")
    with pytest.raises(HiveError):
        unpack(sealed(bytes(block)))
