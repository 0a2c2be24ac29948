"""Mode `ebpf-syscall`: content and offsets from the kernel's ring, names and second looks from fanotify.

Two streams, one order: of every name, the content events before it come first. So a write is never applied to a newer
file that got the inode number of the one it was meant for. A read takes what fanotify has, then notes how far the ring
is filled, and gives out the names when the ring has been read up to there.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterable

from livelift.capture.ebpf.echoes import Echoes
from livelift.capture.ebpf.stream import BUSY, LOST, RING, Stream
from livelift.capture.fanotify import FanotifyCapture
from livelift.errors import StateError
from livelift.ports import Dirty, Event, Exact, Synced, WatchedVolume


class _Names(FanotifyCapture):
    """fanotify, with its descriptor, so that one poll can wait for both streams."""

    @property
    def descriptor(self) -> int:
        return self._group


class EbpfSyscallCapture:
    """Raw tracepoints at the beginning and the end of system calls: for kernels that refuse fexit programs.

    A `livelift.ports.Capture`. Thread use as there; ``sync`` may be called from any thread. ``ignored``, ``ring``,
    ``lost`` as for `Stream`.
    """

    name = "ebpf-syscall"
    promise = (
        "content and offsets as the calls returned; concurrent writers may come in another order until the file is "
        "looked at again; a cut needs the fence"
    )
    blind_to: tuple[str, ...] = ("mmap", "inode-flags", "project-id")
    exact: tuple[str, ...] = ("write", "append", "truncate", "allocate", "punch")
    """Operations of the canary that must arrive as `Exact` records."""

    def __init__(self, *, ignored: Iterable[int] = (), ring: int = RING, lost: int = LOST) -> None:
        self._ignored = tuple(ignored)
        self._sizes = ring, lost
        self._names: _Names | None = None
        self._stream: Stream | None = None
        self._poll = select.poll()
        self._echoes = Echoes()
        self._batch: list[Event] = []  # from fanotify, until the ring has been read up to _end ...
        self._end = 0
        self._turn: int | None = None  # ... and, when it has, until this many of its records have been given out

    def start(self, volumes: Iterable[WatchedVolume], ignore: Callable[[bytes], bool]) -> None:
        """PreflightError: what `FanotifyCapture.start` says, or what `Stream` says."""
        volumes = list(volumes)
        try:
            self._names = _Names()
            self._names.start(volumes, ignore)
            self._stream = Stream("syscall", volumes, self._ignored, *self._sizes, lambda _: ["enter", "leave"])
            self._poll.register(self._stream.descriptor, select.POLLIN)
            self._poll.register(self._names.descriptor, select.POLLIN)
        except BaseException:
            self.close()
            raise

    def watch_directory(self, oid: int, path: bytes) -> None:
        """Nothing to do: the whole volume is seen."""

    def read(self, timeout: float) -> list[Event]:
        if self._names is None or self._stream is None:
            raise StateError("the capture is not started, or closed")
        deadline = time.monotonic() + timeout
        order = self._stream.order
        while True:
            if not self._batch:
                self._batch = self._names.read(0.0)
                self._end, self._turn = self._stream.produced(), None
            events = self._told(self._stream)
            if self._turn is None and self._stream.consumed() >= self._end:
                self._turn = order.taken
            if self._turn is not None and order.given >= self._turn:
                events += self._stream.lost()
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
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._names is not None:
            self._names.close()
            self._names = None
        self._poll = select.poll()

    def filled(self) -> float:
        """As `Stream.filled` (`livelift.ports.Ring`)."""
        if self._stream is None:
            raise StateError("the capture is not started, or closed")
        return self._stream.filled()

    def counters(self) -> dict[str, int]:
        """As `Stream.counters`."""
        if self._stream is None:
            raise StateError("the capture is not started, or closed")
        return self._stream.counters()

    # -- the two streams ---------------------------------------------------------------------------------------------

    def _told(self, stream: Stream) -> list[Event]:
        now = time.monotonic()
        events: list[Event] = []
        for event, later in stream.take(now):
            if isinstance(event, Exact):
                self._echoes.told(event.record.body.oid, now)  # type: ignore[union-attr]  # all of them are ranges
            elif later and isinstance(event, Dirty):
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
