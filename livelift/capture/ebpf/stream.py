"""The kernel's side of both captures: programs loaded and attached, their ring taken in, their losses told."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Final

from livelift.capture.ebpf.loader import open_object, run, set_calls, set_volumes
from livelift.capture.ebpf.losses import FAULTS, RACED, UNTRACKED, Losses
from livelift.capture.ebpf.order import Order, Out
from livelift.capture.ebpf.records import decode
from livelift.platform.linux.bpf import BpfObject, Ring
from livelift.ports import Lost, WatchedVolume


def room(memory: int) -> int:
    """Bytes of the ring on a machine with so many bytes of memory: about a hundredth of them, a power of two. 32 MiB
    are 0.3 s of 64 KiB writes at 100 MB/s. Kernel memory, taken as a whole at the start."""
    wanted = min(max(memory // 128, 32 << 20), 128 << 20)
    return 1 << (wanted.bit_length() - 1)


RING: Final = room(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))

LOST: Final = 65536
"""Objects of which the kernel can remember that a record was dropped, before everything is read again."""

BATCH: Final = 8 << 20
MOST: Final = 4096
"""Bytes and records taken out of the ring in one read: bounds our memory, beside the ring itself, and the time until
whoever waits for a moment between two reads has one."""

TURN: Final = 0.001
"""Seconds for which another thread computes at most before the one that empties the ring has its turn again. Beside one
that computes all the time, with the ten milliseconds that are better for a first copy (`cli.common.tune_interpreter`)
a batch waits longer than it works: 64 KiB writes at 400 MB/s would fill the ring."""

BUSY: Final = 0.001
"""Seconds until another look at a record that a program on another CPU is still writing."""

_CLOCK: Final = 5.0
"""Seconds between two looks at how far the wall clock is from the monotonic one."""


class Stream:
    """``flavour``: the first part of the object file's name. ``ignored``: ids of processes whose writes are left out.
    ``ring``: its bytes, a power of two; ``lost``: how many objects with dropped records can be told apart. ``choose``
    is asked before loading: it leaves out what this kernel cannot run, and gives the programs to attach, in order.

    One thread, but for `produced`. PreflightError: no libbpf, no type information, or BPF is refused here.
    """

    def __init__(
        self,
        flavour: str,
        volumes: Iterable[WatchedVolume],
        ignored: Iterable[int],
        ring: int,
        lost: int,
        choose: Callable[[BpfObject], list[str]],
    ) -> None:
        self.order = Order()
        self._size = ring
        self._boot = 0
        self._boot_at = -_CLOCK
        self.programs = open_object(flavour)
        try:
            self.programs.resize("ring", ring)
            self.programs.resize("lost", lost)
            attached = choose(self.programs)

            def prepare() -> None:
                set_volumes(self.programs, volumes, ignored)
                set_calls(self.programs)
                self.losses = Losses(self.programs)
                self._ring = Ring(self.programs.map("ring"))

            run(self.programs, attached, prepare)
            sys.setswitchinterval(TURN)
        except BaseException:
            self.close()
            raise

    @property
    def descriptor(self) -> int:
        """Readable when the ring has something."""
        return self._ring.descriptor

    def produced(self) -> int:
        """Bytes of records that programs have begun. From any thread."""
        return self._ring.produced()

    def consumed(self) -> int:
        return self._ring.consumed()

    def filled(self) -> float:
        """The part of the ring that waits to be read."""
        return (self.produced() - self.consumed()) / self._size

    def take(self, now: float) -> list[Out]:
        """The next events in order. ``now``: monotonic seconds."""
        if now - self._boot_at >= _CLOCK:
            self._boot, self._boot_at = time.time_ns() - time.monotonic_ns(), now
        return self.order.feed(decode(self._ring.take(BATCH, MOST), self._boot), now)

    def lost(self) -> list[Lost]:
        """What was dropped since the last call, up to now at least."""
        lost = self.losses.new(time.time_ns())
        for each in lost:
            self.order.lost(each.oid)
        return lost

    def counters(self) -> dict[str, int]:
        """How often since the start content was not resident, a write's offset could not be told (marks instead), a
        mapped file found no room in its map, or a program was left out because another task was in it."""
        losses = self.losses
        return {
            "not-resident": losses.counted(FAULTS),
            "position-raced": losses.counted(RACED),
            "mapped-untracked": losses.counted(UNTRACKED),
            "skipped": losses.skipped,
        }

    def close(self) -> None:
        """Detaches every program. What the process leaves undone, its end does: nothing is pinned."""
        ring: Ring | None = getattr(self, "_ring", None)
        if ring is not None:
            ring.close()
        self.programs.close()
