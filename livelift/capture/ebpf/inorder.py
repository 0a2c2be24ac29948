"""Mode `ebpf`: everything from one ring, told while it is locked, so that the log is in the order of the changes.

Names come before anybody can see them, content before the file system copies it, attributes while the inode is locked,
stores into mappings when their pages are written to disk. There is no second stream.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from livelift.capture.ebpf import filesystems, hooks
from livelift.capture.ebpf.loader import FALLBACK, mapped_already
from livelift.capture.ebpf.stream import BUSY, LOST, RING, Stream
from livelift.errors import PreflightError, StateError
from livelift.platform.linux.bpf import BpfObject, KernelTypes
from livelift.ports import Dirty, Event, Lost, Synced, WatchedVolume

PAGE = 4096
"""Bytes of a page: PAGE_SHIFT of memory.bpf.h. Kernels for arm64 may have 16 or 64 KiB."""
LATER = 0.1
"""Seconds until a mark of a change that is yet to be made is given out: whoever looks then sees it. Where it takes
longer, another mark comes at its end."""


class EbpfFexitCapture:
    """fentry and fexit programs. Linux 5.10, where the kernel lets them load.

    A `livelift.ports.Capture` and `livelift.ports.Ordered`. Thread use as there; ``sync`` and ``produced`` may be
    called from any thread. ``ignored``, ``ring``, ``lost`` as for `Stream`.
    """

    name = "ebpf"
    promise = "content and names in the order in which they changed: a cut can be made while the workload runs"
    blind_to: tuple[str, ...] = ()
    optional: tuple[str, ...] = ("mmap", "inode-flags")
    """Operations of the canary that it may miss on a kernel or file system; it is then blind to them."""
    exact: tuple[str, ...] = (
        "create", "write", "append", "truncate", "allocate", "punch", "mmap", "rename", "rename-over", "exchange",
        "link", "symlink", "mknod", "unlink", "mkdir", "rmdir",
    )  # fmt: skip
    """Operations of the canary that must arrive as `Exact` records."""

    def __init__(self, *, ignored: Iterable[int] = (), ring: int = RING, lost: int = LOST) -> None:
        self._ignored = tuple(ignored)
        self._sizes = ring, lost
        self._stream: Stream | None = None
        self._poll = select.poll()
        self._bell = -1
        self._lock = threading.Lock()
        self._tokens: deque[tuple[int, int]] = deque()  # (token, ring position when it was set)
        self._turns: deque[tuple[int, int, int]] = deque()  # (token, records and losses to be given out before it)
        self._later: deque[tuple[float, Dirty]] = deque()
        self._again: deque[tuple[int, Lost]] = deque()  # (ring position when it was found, loss)
        self._behind: deque[tuple[int, Lost]] = deque()  # (records to be given out before it, loss)
        self._found = self._told = 0  # losses, since the start: found, and told again
        self._ends: deque[tuple[int, int]] = deque()  # (records taken in, ring position behind the last of them)
        self.reached = self.passed = 0
        self.settled = False

    def start(self, volumes: Iterable[WatchedVolume], ignore: Callable[[bytes], bool]) -> None:
        """PreflightError: what `Stream` says, a function of this kernel is not known, or the mode is not for a file
        system (`filesystems`)."""
        volumes = list(volumes)
        filesystems.check(volumes)
        try:
            self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._stream = Stream("fexit", volumes, self._ignored, *self._sizes, _choose)
            mapped_already(self._stream.programs, volumes)  # after the programs, which see those that come now
            self._poll.register(self._stream.descriptor, select.POLLIN)
            self._poll.register(self._bell, select.POLLIN)
        except BaseException:
            self.close()
            raise

    def watch_directory(self, oid: int, path: bytes) -> None:
        """Nothing to do: the whole volume is seen."""

    def read(self, timeout: float) -> list[Event]:
        stream = self._running()
        deadline = time.monotonic() + timeout
        while True:
            events = self._next(stream)
            if events:
                return events
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return []
            self._poll.poll(min(remaining, BUSY if self._turns or not stream.order.settled else 0.5) * 1000)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._bell)

    def _next(self, stream: Stream) -> list[Event]:
        with self._lock:
            tokens = list(self._tokens)
        now = time.monotonic()
        events: list[Event] = []
        for event, later in stream.take(now):
            if later and isinstance(event, Dirty):
                self._later.append((now + LATER, event))
            else:
                events.append(event)
        end = stream.consumed()
        # At once, for the gap; and when all that was told before it is out: what is read sooner would be overtaken by
        # records of before, behind which one is missing.
        lost = stream.lost()
        events += lost
        while self._behind and self._behind[0][0] <= stream.order.given:
            events.append(self._behind.popleft()[1])
            self._told += 1
        while self._again and self._again[0][0] <= end:
            self._behind.append((stream.order.taken, self._again.popleft()[1]))
        self._again += [(stream.produced(), each) for each in lost]
        self._found += len(lost)
        for token, position in tokens:
            if position <= end:
                self._turns.append((token, stream.order.taken, self._found))
                with self._lock:
                    self._tokens.popleft()
        # Not for what is lost after it: where that has no end, a drain would have none.
        while self._turns and self._turns[0][1] <= stream.order.given and self._turns[0][2] <= self._told:
            events += [event for _, event in self._later]  # a drain sees everything, even too early
            events.append(Synced(self._turns.popleft()[0]))
        while self._later and self._later[0][0] <= now:
            events.append(self._later.popleft()[1])
        self._ends.append((stream.order.taken, end))
        while self._ends and self._ends[0][0] <= stream.order.given:
            self.reached = self._ends.popleft()[1]
        self.settled = stream.order.settled and not (self._later or self._again or self._behind)
        if self.settled:
            self.passed = end
        return events

    def sync(self, token: int) -> None:
        stream = self._running()
        with self._lock:
            self._tokens.append((token, stream.produced()))
        os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._bell >= 0:
            os.close(self._bell)
            self._bell = -1
        self._poll = select.poll()

    def filled(self) -> float:
        """As `Stream.filled` (`livelift.ports.Ring`)."""
        return self._running().filled()

    def counters(self) -> dict[str, int]:
        """As `Stream.counters`."""
        return self._running().counters()

    # -- the order (livelift.ports.Ordered) --------------------------------------------------------------------------

    def produced(self) -> int:
        return self._running().produced()

    def why_not(self) -> str:
        if self._running().counters()["mapped-untracked"]:
            return "more files were mapped writable than can be told apart: their stores are not in the log"
        return ""

    def _running(self) -> Stream:
        if self._stream is None:
            raise StateError("the capture is not started, or closed")
        return self._stream


def _choose(programs: BpfObject) -> list[str]:
    """PreflightError: not on this kernel."""
    if (size := os.sysconf("SC_PAGE_SIZE")) != PAGE:
        raise PreflightError(f"the kernel's pages have {size} bytes, the programs count in {PAGE}", remedy=FALLBACK)
    with contextlib.closing(KernelTypes()) as types:
        chosen, left = hooks.choose(types.parameters)
    for name in left:
        programs.leave_out(name)
    return chosen
