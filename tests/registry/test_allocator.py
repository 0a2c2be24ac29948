from __future__ import annotations

import random
import struct

import pytest

from livelift.errors import HiveError
from livelift.registry import allocator
from livelift.registry.allocator import Allocator
from livelift.registry.cells import Cells


def test_cells_are_where_they_were_put_and_fill_whole_bins(rng: random.Random) -> None:
    cells = Allocator(77)
    contents = [rng.randbytes(rng.choice((0, 1, 4, 5, 80, 4060, 4061, 20000))) for _ in range(300)]
    places = [cells.put(content) for content in contents]
    assert places[0] == 32
    bins = memoryview(cells.finish())
    found = Cells(bins)
    for place, content in zip(places, contents, strict=True):
        assert found.take(place, len(content), "x") < len(content) + 8
        assert bytes(bins[place + 4 : place + 4 + len(content)]) == content
    assert found.lost() == 0
    headers = [at for at in range(0, len(bins), 4096) if bins[at : at + 4] == b"hbin"]
    stamps = [struct.unpack_from("<Q", bins, at + 20)[0] for at in headers]
    assert len(stamps) == found.bin_count > 1 and stamps == [77] + [0] * (len(stamps) - 1)


def test_room_that_is_left_is_used() -> None:
    cells = Allocator(0)
    cells.cell(3000)
    cells.cell(3000)
    first, second = cells.cell(900), cells.cell(900)
    assert {first // 4096, second // 4096} == {0, 1}
    assert len(cells.finish()) == 8192


def test_a_hive_has_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "MAX_BINS", 8192)
    cells = Allocator(0)
    cells.cell(8000)
    with pytest.raises(HiveError, match="2 GiB"):
        cells.cell(4000)
