from __future__ import annotations

import struct

import pytest

from livelift.errors import HiveError
from livelift.registry.allocator import Allocator
from livelift.registry.cells import Cells
from livelift.registry.lists import name_hash, put_subkeys, subkey_offsets
from livelift.registry.tree import Key
from tests.registry.raw import Raw


@pytest.mark.parametrize(
    ("folded", "result"), [("", 0), ("A", 65), ("AB", 65 * 37 + 66), ("Ω", 0x3A9), ("\U00010428", 0xD801 * 37 + 0xDC28)]
)
def test_the_hash_of_a_name(folded: str, result: int) -> None:
    assert name_hash(folded) == result


def test_the_hash_has_32_bits() -> None:
    assert name_hash("ControlSet001".upper()) == sum(
        ord(letter) * 37**power for power, letter in enumerate(reversed("CONTROLSET001"))
    ) % (1 << 32)


def test_fast_leaves_have_the_first_letters() -> None:
    into = Allocator(0)
    names = ["ab", "Größe", "xΩyz", "longer Ω"]
    place = put_subkeys(into, 3, [Key(name) for name in names], [name.upper() for name in names], [8, 16, 24, 32])
    assert struct.unpack_from("<2sH", into.bins, place + 4) == (b"lf", 4)
    entries = struct.unpack_from("<I4sI4sI4sI4s", into.bins, place + 8)
    assert entries == (8, b"ab\0\0", 16, "Größ".encode("latin-1"), 24, bytes(4), 32, b"long")


def test_a_list_that_does_not_fit_its_cell_is_refused() -> None:
    for magic, count in ((b"li", 3), (b"lh", 2), (b"ri", 3)):
        raw = Raw()
        place = raw.cell(struct.pack("<2sHII", magic, count, 0, 0))
        with pytest.raises(HiveError, match="fit"):
            subkey_offsets(Cells(memoryview(raw.bins())), place, count)
