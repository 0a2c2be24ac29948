"""What the kernel's programs could not put into the ring: counted there, named by object as far as there is room."""

from __future__ import annotations

import struct
import time as clock
from typing import Final

from livelift.platform.linux.bpf import BpfObject, sum_of, take_keys
from livelift.ports import Lost

DROPPED: Final = 0
LOST_FULL: Final = 1
FAULTS: Final = 2
RACED: Final = 3
UNTRACKED: Final = 4
"""`enum stat` of `records.bpf.h`."""

SKIPS_EVERY: Final = 1.0
"""Seconds between two questions to the kernel whether it left out runs of the programs."""


class Losses:
    """The counters of a loaded object. One thread."""

    def __init__(self, programs: BpfObject) -> None:
        self._programs = programs
        self._stats = programs.map("stats")
        self._lost = programs.map("lost")
        self._dropped = 0
        self._overflowed = 0
        self._asked = 0.0
        self.skipped = 0

    def new(self, time: int) -> list[Lost]:
        """What was lost since the last call. The kernel names the object before it counts, and the name is taken out of
        its map before it is reported here: a loss that comes in between is in this answer, or counted anew.
        """
        lost = self._skips(time)
        dropped = sum_of(self._stats, DROPPED)
        if dropped == self._dropped:
            return lost
        overflowed = sum_of(self._stats, LOST_FULL)
        number, self._dropped = dropped - self._dropped, dropped
        objects = take_keys(self._lost, 8)
        if overflowed != self._overflowed:
            self._overflowed = overflowed
            return [*lost, Lost(0, -1, f"the ring was full, {number} records of too many objects to name", time)]
        reason = f"the ring was full ({number} records dropped)"
        return lost + [Lost(oid, oid >> 56, reason, time) for (oid,) in map(_KEY.unpack, objects)]

    def _skips(self, time: int) -> list[Lost]:
        """The kernel runs a program once at a time on each CPU (Linux 5.12 and later): a task that comes while another
        one, preempted, is in it, is not told about, and only counted. That takes a kernel that preempts itself."""
        now = clock.monotonic()
        if now - self._asked < SKIPS_EVERY:
            return []
        self._asked = now
        skipped = self._programs.skipped()
        if skipped == self.skipped:
            return []
        number, self.skipped = skipped - self.skipped, skipped
        return [Lost(0, -1, f"the kernel left out {number} runs of the programs", time)]

    def counted(self, which: int) -> int:
        """DROPPED, LOST_FULL, FAULTS, RACED or UNTRACKED since the start."""
        return sum_of(self._stats, which)


_KEY: Final = struct.Struct("=Q")
