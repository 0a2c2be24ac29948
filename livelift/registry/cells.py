"""Bins and cells: the allocation layer of a hive. Everything above it takes cells by offset and each one once.

The bins follow the base block without a gap. A bin: "hbin" | its offset | its size (4096 bytes or a multiple) |
reserved 8 | FILETIME (first bin only) | spare 4. Cells fill the rest: size i32, negative while in use, a multiple of
8 that counts itself. Offsets are relative to the first bin.

All bins are walked before anything is followed, so a pointer can only lead to the start of a cell, cells cannot
overlap, and a cell that two owners claim is found: that rules out cycles, and a small hive that names one big cell
a thousand times.
"""

from __future__ import annotations

import struct
from typing import Final

from livelift.errors import HiveError
from livelift.registry.base_block import BLOCK

NONE: Final = 0xFFFFFFFF
"""The offset that stands for "no cell" (HCELL_NIL)."""
BIN_HEADER: Final = 32
_BIN = struct.Struct("<4sII")
_SIZE = struct.Struct("<i")
FREE, USED, TAKEN = 1, 2, 3


def damaged(what: str, offset: int) -> HiveError:
    """``offset``: of the cell, relative to the first bin; in the file it is 4096 bytes further."""
    return HiveError(f"cell at 0x{offset:x}: {what}")


class Cells:
    """The cells of one hive. ``bins``: the bytes behind the base block, exactly the bins."""

    def __init__(self, bins: memoryview) -> None:
        self.bins = bins
        self.free = 0
        self.used = 0
        self.bin_count = 0
        self._marks = bytearray(len(bins) >> 3)
        self._walk()

    def _walk(self) -> None:
        bins, marks, size_at = self.bins, self._marks, _SIZE.unpack_from
        start, limit = 0, len(bins)
        while start < limit:
            if limit - start < BIN_HEADER:
                raise damaged("the last bin is cut off", start)
            magic, offset, length = _BIN.unpack_from(bins, start)
            if magic != b"hbin" or offset != start or not length or length % BLOCK or length > limit - start:
                raise damaged("a bin header was expected here", start)
            end, at = start + length, start + BIN_HEADER
            while at < end:
                (size,) = size_at(bins, at)
                if size < 0:
                    size = -size
                    marks[at >> 3] = USED
                    self.used += size
                else:
                    marks[at >> 3] = FREE
                    self.free += size
                if not size or size & 7 or size > end - at:
                    raise damaged(f"its size of {size} bytes does not fit its bin", at)
                at += size
            self.bin_count += 1
            start = end

    def take(self, offset: int, least: int, what: str) -> int:
        """The space of the cell at ``offset`` for one owner, in bytes; its content begins at ``offset + 4``."""
        mark = self._marks[offset >> 3] if offset < len(self.bins) and not offset & 7 else 0
        if mark != USED:
            state = ("no cell begins there", "that cell is free", "", "that cell belongs to another owner")[mark]
            raise damaged(f"{what} was expected here: {state}", offset)
        self._marks[offset >> 3] = TAKEN
        space: int = -_SIZE.unpack_from(self.bins, offset)[0] - 4
        if space < least:
            raise damaged(f"{what} needs {least} bytes, the cell holds {space}", offset)
        return space

    def lost(self) -> int:
        """Cells in use that nothing refers to."""
        return self._marks.count(USED)
