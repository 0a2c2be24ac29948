"""Page-aligned buffers that are used again and again: what is received here can be written with O_DIRECT.

Anonymous mappings start at a page (mmap(2)); O_DIRECT wants the logical block size, at most 4 KiB in practice
(open(2)).
Using them again saves the first touch of every page, which costs more than the copy (0.3 to 3.7 CPU-s per GiB
measured).
"""

from __future__ import annotations

import mmap
import sys
import threading

_SMALLEST = 64 << 10


class Pool:
    """Buffers in sizes of powers of two. ``idle_limit``: bytes kept for later use."""

    def __init__(self, idle_limit: int) -> None:
        self._idle_limit = idle_limit
        self._idle = 0
        self._free: dict[int, list[mmap.mmap]] = {}
        self._lock = threading.Lock()

    def take(self, size: int) -> mmap.mmap:
        """A buffer of ``size`` bytes or more, content undefined."""
        room = max(_SMALLEST, 1 << (size - 1).bit_length())
        with self._lock:
            free = self._free.get(room)
            if free:
                self._idle -= room
                return free.pop()
        if sys.platform == "win32":  # always private to the process there, and without flags
            return mmap.mmap(-1, room)
        return mmap.mmap(-1, room, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def give(self, buffer: mmap.mmap) -> None:
        """Nobody may use the buffer or a view of it from here on."""
        room = len(buffer)
        with self._lock:
            if self._idle + room <= self._idle_limit:
                self._idle += room
                self._free.setdefault(room, []).append(buffer)
        # Beyond the limit it is unmapped when the last view of it goes.
