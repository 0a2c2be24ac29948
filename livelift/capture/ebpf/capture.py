"""The captures of this package: content and offsets from the kernel's ring, names and second looks from fanotify.

Two streams, one order: of every name, the content events before it come first. So a write is never applied to a newer
file that got the inode number of the one it was meant for. A read takes what fanotify has, then notes how far the ring
is filled, and gives out the names when the ring has been read up to there.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable, Iterable
from typing import Final

from livelift.capture.ebpf import hooks
from livelift.capture.ebpf.echoes import Echoes
from livelift.capture.ebpf.loader import open_object, run, set_calls, set_volumes
from livelift.capture.ebpf.losses import FAULTS, RACED, Losses
from livelift.capture.ebpf.order import Order
from livelift.capture.ebpf.records import decode
from livelift.capture.fanotify import FanotifyCapture
from livelift.errors import StateError
from livelift.platform.linux.bpf import BpfObject, KernelTypes, Ring
from livelift.ports import Dirty, Event, Exact, Synced, WatchedVolume

RING: Final = 32 << 20
"""Bytes of the ring: 0.3 s of 64 KiB writes at 100 MB/s, twice over. Kernel memory, taken as a whole at the start."""

LOST: Final = 65536
"""Objects of which the kernel can remember that a record was dropped, before everything is read again."""

BATCH: Final = 8 << 20
"""Bytes taken out of the ring in one read: bounds our memory, beside the ring itself."""

BUSY: Final = 0.001
"""Seconds until another look at a record that a program on another CPU is still writing."""

_CLOCK: Final = 5.0
"""Seconds between two looks at how far the wall clock is from the monotonic one."""


class _Names(FanotifyCapture):
    """fanotify, with its descriptor, so that one poll can wait for both streams."""

    @property
    def descriptor(self) -> int:
        return self._group


class EbpfCapture:
    """A `livelift.ports.Capture`. Thread use as there; ``sync`` may be called from any thread.

    ``ignored``: ids of processes whose writes are left out (the agents'). ``ring``: its bytes, a power of two.
    ``lost``: how many objects with dropped records can be told apart.
    """

    name: str
    promise: str
    blind_to: tuple[str, ...] = ("mmap", "inode-flags", "project-id")
    exact: tuple[str, ...] = ("write", "append", "truncate", "allocate", "punch")
    """Operations of the canary that must arrive as `Exact` records."""

    flavour: str
    """The first part of the object file's name."""

    def __init__(self, *, ignored: Iterable[int] = (), ring: int = RING, lost: int = LOST) -> None:
        self._ignored = tuple(ignored)
        self._ring_size = ring
        self._lost_size = lost
        self._names: _Names | None = None
        self._programs: BpfObject | None = None
        self._ring: Ring | None = None
        self._losses: Losses | None = None
        self._poll = select.poll()
        self._echoes = Echoes()
        self._order = Order()
        self._batch: list[Event] = []  # from fanotify, until the ring has been read up to _end ...
        self._end = 0
        self._turn: int | None = None  # ... and, when it has, until this many of its records have been given out
        self._boot = 0
        self._boot_at = -_CLOCK

    # -- what a flavour says -----------------------------------------------------------------------------------------

    def _choose(self, programs: BpfObject) -> list[str]:
        """Before loading: leave out what this kernel cannot run; the programs to attach, in this order."""
        raise NotImplementedError

    # -- the port ----------------------------------------------------------------------------------------------------

    def start(self, volumes: Iterable[WatchedVolume], ignore: Callable[[bytes], bool]) -> None:
        """PreflightError: what `FanotifyCapture.start` says, no libbpf, no type information, or BPF is refused here."""
        volumes = list(volumes)
        try:
            self._names = _Names()
            self._names.start(volumes, ignore)
            programs = self._programs = open_object(self.flavour)
            programs.resize("ring", self._ring_size)
            programs.resize("lost", self._lost_size)
            attached = self._choose(programs)

            def prepare() -> None:
                set_volumes(programs, volumes, self._ignored)
                set_calls(programs)
                self._losses = Losses(programs)
                self._ring = Ring(programs.map("ring"))

            run(programs, attached, prepare)
            assert self._ring is not None
            self._poll.register(self._ring.descriptor, select.POLLIN)
            self._poll.register(self._names.descriptor, select.POLLIN)
        except BaseException:
            self.close()
            raise

    def watch_directory(self, oid: int, path: bytes) -> None:
        """Nothing to do: the whole volume is seen."""

    def read(self, timeout: float) -> list[Event]:
        if self._names is None or self._ring is None or self._losses is None:
            raise StateError("the capture is not started, or closed")
        deadline = time.monotonic() + timeout
        while True:
            if not self._batch:
                self._batch = self._names.read(0.0)
                self._end, self._turn = self._ring.produced(), None
            events = self._told(self._ring.take(BATCH))
            if self._turn is None and self._ring.consumed() >= self._end:
                self._turn = self._order.taken
            if self._turn is not None and self._order.given >= self._turn:
                events += self._losses.new(time.time_ns())
                events += self._heard(self._batch)
                self._batch = []
            if events:
                return events
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return []
            self._poll.poll(min(remaining, BUSY if self._batch else 0.5) * 1000)

    def sync(self, token: int) -> None:
        if self._names is None:
            raise StateError("the capture is not started, or closed")
        self._names.sync(token)

    def close(self) -> None:
        """Detaches every program. What the process leaves undone, its end does: nothing is pinned."""
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        if self._programs is not None:
            self._programs.close()
            self._programs = None
        if self._names is not None:
            self._names.close()
            self._names = None
        self._losses = None
        self._poll = select.poll()

    def counters(self) -> dict[str, int]:
        """How often since the start content was not resident, or a write's offset could not be told: marks instead."""
        if self._losses is None:
            raise StateError("the capture is not started, or closed")
        return {"not-resident": self._losses.counted(FAULTS), "position-raced": self._losses.counted(RACED)}

    # -- the two streams ---------------------------------------------------------------------------------------------

    def _told(self, samples: list[bytes]) -> list[Event]:
        now = time.monotonic()
        if now - self._boot_at >= _CLOCK:
            self._boot, self._boot_at = time.time_ns() - time.monotonic_ns(), now
        events: list[Event] = []
        for event, later in self._order.feed(decode(samples, self._boot), now):
            if isinstance(event, Exact):
                self._echoes.told(event.record.body.oid, now)  # type: ignore[union-attr]  # all of them are ranges
            elif later:
                self._echoes.told(event.oid, now)
            if isinstance(event, Dirty) and self._echoes.heard(event, now):
                continue
            events.append(event)
        return events

    def _heard(self, batch: list[Event]) -> list[Event]:
        now = time.monotonic()
        events: list[Event] = []
        for event in batch:
            if isinstance(event, Synced):
                events += self._echoes.all()
            elif isinstance(event, Dirty) and self._echoes.heard(event, now):
                continue
            events.append(event)
        events += self._echoes.due(now)
        return events


class EbpfSyscallCapture(EbpfCapture):
    """Raw tracepoints at the beginning and the end of system calls: for kernels that refuse fexit programs."""

    name = "ebpf-syscall"
    promise = (
        "content and offsets as the calls returned; concurrent writers may come in another order until the file is "
        "looked at again; a cut needs the fence"
    )
    flavour = "syscall"

    def _choose(self, programs: BpfObject) -> list[str]:
        return ["enter", "leave"]


class EbpfFexitCapture(EbpfCapture):
    """fexit programs: content is taken while the inode is locked. Linux 5.10, where the kernel lets them load."""

    name = "ebpf"
    promise = (
        "content in the order in which the files changed; names come beside it, in an order of their own; a cut needs "
        "the fence"
    )
    flavour = "fexit"

    def _choose(self, programs: BpfObject) -> list[str]:
        with contextlib.closing(KernelTypes()) as types:
            chosen, left = hooks.choose(types.parameters)
        for name in left:
            programs.leave_out(name)
        return chosen
