"""Cells for a new hive: bins of 4096 bytes filled from the front, bigger ones only for cells that need them.

What is left of a bin when the next cell does not fit is kept in view for smaller ones and becomes a free cell in the
end. Windows hands out cells first-fit as well; the exact places are its own affair and mean nothing.
"""

from __future__ import annotations

import struct
from typing import Final

from livelift.errors import HiveError
from livelift.registry.base_block import BLOCK, MAX_BINS
from livelift.registry.cells import BIN_HEADER

KEPT: Final = 8
"""Bins with room that are looked at before a new one is made."""
LARGEST: Final = 1 << 20
"""Bytes of a cell that the kernel still allocates (HSANE_CELL_MAX)."""
_BIN = struct.Struct("<4sII8xQI")
_SIZE = struct.Struct("<i")


class Allocator:
    """``bins``: the bytes so far. ``timestamp``: FILETIME for the header of the first bin."""

    def __init__(self, timestamp: int) -> None:
        self.bins = bytearray()
        self._timestamp = timestamp
        self._at = self._end = 0
        self._open: list[tuple[int, int]] = []

    def cell(self, content: int) -> int:
        """The offset of a new cell for ``content`` bytes; they begin 4 bytes further and are zero."""
        need = (content + 11) & ~7
        if need > LARGEST:
            raise HiveError(f"a cell cannot hold {content} bytes", remedy="leave the value out, or write format 1.5")
        if self._end - self._at < need:
            self._find(need)
        offset = self._at
        self._at += need
        _SIZE.pack_into(self.bins, offset, -need)
        return offset

    def put(self, content: bytes) -> int:
        offset = self.cell(len(content))
        self.bins[offset + 4 : offset + 4 + len(content)] = content
        return offset

    def _find(self, need: int) -> None:
        self._leave()
        for index, (at, end) in enumerate(self._open):
            if end - at >= need:
                self._at, self._end = at, end
                del self._open[index]
                return
        start = len(self.bins)
        size = -(-(need + BIN_HEADER) // BLOCK) * BLOCK
        if start + size > MAX_BINS:
            raise HiveError("the hive would be bigger than 2 GiB", remedy="leave out what is not needed")
        self.bins.extend(bytes(size))
        _BIN.pack_into(self.bins, start, b"hbin", start, size, 0 if start else self._timestamp, 0)
        self._at, self._end = start + BIN_HEADER, start + size

    def _leave(self) -> None:
        if self._at < self._end:
            self._open.append((self._at, self._end))
        if len(self._open) > KEPT:
            smallest = min(range(len(self._open)), key=lambda index: self._open[index][1] - self._open[index][0])
            self._close(*self._open.pop(smallest))

    def _close(self, at: int, end: int) -> None:
        _SIZE.pack_into(self.bins, at, end - at)

    def finish(self) -> bytearray:
        """All bins, what is left of them as free cells."""
        self._leave()
        for at, end in self._open:
            self._close(at, end)
        return self.bins
