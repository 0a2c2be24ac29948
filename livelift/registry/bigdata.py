"""Big data (db): since 1.4 a value above 16344 bytes is cut into segments of that size, each in a cell of its own.

db: "db", u16 number of segments, offset of a cell with the segments' offsets. A segment's cell holds 16344 bytes and
4 of padding; in the last one, of the same size, what is left comes first.
"""

from __future__ import annotations

import struct
from typing import Final

from livelift.errors import HiveError
from livelift.registry.allocator import Allocator
from livelift.registry.cells import Cells, damaged

LARGEST_PLAIN: Final = 16344
"""CM_KEY_VALUE_BIG: a cell with as many bytes fits four blocks together with a bin header and its own padding."""
_HEAD = struct.Struct("<2sHI")


def read_big(cells: Cells, offset: int, size: int) -> bytes:
    """The ``size`` bytes of the big data at ``offset``. Other writers than Windows (hivex) store them in one cell: one
    that holds them all is taken as such, since a db record never does."""
    bins = cells.bins
    space = cells.take(offset, 8, "the data of a value")
    if space >= size:
        return bytes(bins[offset + 4 : offset + 4 + size])
    magic, count, where = _HEAD.unpack_from(bins, offset + 4)
    if magic != b"db" or count != -(-size // LARGEST_PLAIN):
        raise damaged(f"big data of {size} bytes was expected here", offset)
    cells.take(where, 4 * count, "a list of data segments")
    parts = []
    for cell in struct.unpack_from(f"<{count}I", bins, where + 4):
        length = min(size, LARGEST_PLAIN)
        cells.take(cell, length, "a data segment")
        parts.append(bins[cell + 4 : cell + 4 + length])
        size -= length
    return b"".join(parts)


def put_big(into: Allocator, data: bytes) -> int:
    """Store ``data`` in segments; the offset of the db record. Every segment's cell is of full size, the last one's
    too, as Windows has it: hivex and libregf take the end of the data from it."""
    segments = []
    for start in range(0, len(data), LARGEST_PLAIN):
        some = data[start : start + LARGEST_PLAIN]
        cell = into.cell(LARGEST_PLAIN + 4)
        into.bins[cell + 4 : cell + 4 + len(some)] = some
        segments.append(cell)
    if len(segments) > 0xFFFF:
        raise HiveError(f"a value cannot have {len(data)} bytes", remedy="leave it out")
    return into.put(_HEAD.pack(b"db", len(segments), into.put(struct.pack(f"<{len(segments)}I", *segments))))
