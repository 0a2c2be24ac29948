from __future__ import annotations

import struct

import pytest

from livelift.errors import HiveError
from livelift.registry.cells import Cells
from tests.registry.raw import Raw


def bins(*, magic: bytes = b"hbin", offset: int = 0, length: int = 4096, sizes: tuple[int, ...] = (-16, 4048)) -> bytes:
    raw = bytearray(4096)
    struct.pack_into("<4sII", raw, 0, magic, offset, length)
    at = 32
    for size in sizes:
        struct.pack_into("<i", raw, at, size)
        at += abs(size)
        if not 0 < abs(size) <= 4096 - at:
            break
    return bytes(raw)


def test_cells_are_counted_and_taken_once() -> None:
    cells = Cells(memoryview(bins()))
    assert (cells.used, cells.free, cells.bin_count, cells.lost()) == (16, 4048, 1, 1)
    assert cells.take(32, 12, "x") == 12
    assert cells.lost() == 0
    with pytest.raises(HiveError, match="another owner"):
        cells.take(32, 12, "x")


@pytest.mark.parametrize("offset", [0, 28, 33, 40, 48, 4095, 4096, 0x80000000, 0xFFFFFFFF])
def test_only_the_start_of_a_used_cell_is_taken(offset: int) -> None:
    state = "is free" if offset == 48 else "no cell begins there"
    with pytest.raises(HiveError, match=f"0x{offset:x}: .*{state}"):
        Cells(memoryview(bins())).take(offset, 1, "x")


def test_a_cell_that_is_too_small_is_refused() -> None:
    with pytest.raises(HiveError, match="needs 13 bytes, the cell holds 12"):
        Cells(memoryview(bins())).take(32, 13, "x")


@pytest.mark.parametrize(
    "raw",
    [
        bins(magic=b"hbim"),
        bins(offset=4096),
        bins(length=0),
        bins(length=8192),
        bins(length=4000),
        bins(sizes=(-16, 0)),
        bins(sizes=(-12, 4052)),
        bins(sizes=(-16, 4056)),
        bins(sizes=(-(2**31),)),
        bins(sizes=(-16,)),
        bins()[:16],
    ],
)
def test_bins_that_do_not_add_up_are_refused(raw: bytes) -> None:
    with pytest.raises(HiveError, match="cell at 0x"):
        Cells(memoryview(raw))


def test_bins_may_differ_in_size() -> None:
    raw = Raw()
    raw.cell(bytes(9000))
    first = raw.bins()
    second = bytearray(bins())
    struct.pack_into("<I", second, 4, len(first))
    assert Cells(memoryview(first + bytes(second))).bin_count == 2
