"""The kernel's queue of notifications: waiting, reading, and marks in the stream; the same for fanotify and inotify.

Either has one queue for each descriptor, first in, first out over all marks and watches (fs/notify/notification.c).
So a memory file (memfd_create(2)) that is watched through the same descriptor and gets a chmod puts an event exactly
between what happened before and what happens later, and nothing is written to a file system of the source. Unread
events on one object merge, so a file that waits for its event is not used again: every pending mark has its own.

Where memory files cannot be watched (fanotify before 5.13: tmpfs had no fsid) the mark is answered when the queue is
found empty, which under constant load may take long.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import struct
import termios
import time
from collections import deque
from collections.abc import Callable

from livelift.ports import Event, Synced

_NOEXEC_SEAL = 0x8  # MFD_NOEXEC_SEAL, 6.3: without it vm.memfd_noexec=2 refuses
_UNSUPPORTED = (
    errno.ENODEV,
    errno.EOPNOTSUPP,
    errno.EINVAL,
    errno.EACCES,
    errno.EPERM,
    errno.ENOSYS,
    errno.ENOSPC,  # the limit of watches or marks: the empty queue must do
)


class NotificationQueue:
    """Owns ``descriptor`` (non-blocking). ``watch(file, slot)`` must make a chmod of ``file`` arrive as an event that
    the caller recognizes and answers with ``synced(slot)``; OSError if it cannot. ``sync`` and ``wake`` may be called
    from any thread, the rest from one.
    """

    def __init__(self, descriptor: int, size: int, watch: Callable[[int, int], None]) -> None:
        self._descriptor = descriptor
        self._size = size
        self._watch = watch
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        self._files: list[int] = []
        self._free: list[int] = []
        self.pending: dict[int, int] = {}  # slot to token
        self._unmarked: deque[int] = deque()  # tokens that wait for an empty queue
        try:
            slot = self._slot()
        except OSError:
            self.close()
            raise
        self.marks = slot >= 0
        if self.marks:
            self._free.append(slot)

    def read(self, timeout: float, parse: Callable[[bytes], list[Event]]) -> list[Event]:
        """Events as ``parse`` makes them of what the kernel wrote; an empty list after ``timeout`` seconds without."""
        deadline = time.monotonic() + timeout
        while True:
            unmarked = len(self._unmarked)
            buffer = self.take()
            events = parse(buffer)
            if not buffer:  # whoever asked before the queue was seen empty has an answer
                events += [Synced(self._unmarked.popleft()) for _ in range(unmarked)]
            if events:
                return events
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return []
            self.wait(remaining)

    def take(self) -> bytes:
        """What is in the queue, up to the buffer's size; nothing if it is empty."""
        try:
            return os.read(self._descriptor, self._size)
        except BlockingIOError:
            return b""

    def length(self) -> int:
        """How many events wait in a fanotify queue: FIONREAD counts 24 bytes each (fanotify_user.c, fanotify_ioctl)."""
        size = bytearray(4)
        fcntl.ioctl(self._descriptor, termios.FIONREAD, size)
        return int(struct.unpack("=I", size)[0]) // 24

    def wait(self, seconds: float) -> None:
        """Sleep until there is something to take, or ``wake``, or the time is over."""
        self._poll.poll(seconds * 1000)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    def wake(self) -> None:
        os.eventfd_write(self._wake, 1)

    def sync(self, token: int) -> None:
        slot = self._slot() if self.marks else -1
        if slot < 0:
            self._unmarked.append(token)
            self.wake()
            return
        self.pending[slot] = token
        os.fchmod(self._files[slot], 0o600)  # ATTRIB comes even if nothing changes (fs/attr.c, notify_change)

    def synced(self, slot: int) -> list[Event]:
        """The event of this slot's file has arrived: what to report."""
        token = self.pending.pop(slot, None)
        if token is None:
            return []
        self._free.append(slot)
        return [Synced(token)]

    def _slot(self) -> int:
        """A memory file that no mark is waiting for; -1 if none can be watched."""
        with contextlib.suppress(IndexError):
            return self._free.pop()
        file, slot = -1, len(self._files)
        try:
            file = _memory_file()
            self._watch(file, slot)
        except OSError as error:
            if file >= 0:
                os.close(file)
            if error.errno not in _UNSUPPORTED:
                raise
            return -1
        self._files.append(file)
        return slot

    def close(self) -> None:
        for descriptor in (*self._files, self._wake, self._descriptor):
            os.close(descriptor)
        self._files.clear()


def _memory_file() -> int:
    if not hasattr(os, "memfd_create"):  # an agent built against a glibc older than 2.27
        raise OSError(errno.ENOSYS, "no memfd_create")
    try:
        return os.memfd_create("livelift-sync", os.MFD_CLOEXEC | _NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create("livelift-sync", os.MFD_CLOEXEC)
