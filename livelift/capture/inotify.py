"""Capture by inotify(7): the last resort for old kernels. A watch on every directory, set by the walk as it goes.

It tells names, not objects, and sees a file only through directories that are watched. What a file's other hard link in
an unwatched directory changes, it does not see. A write after unlink is not reported (IN_EXCL_UNLINK).
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from livelift.capture.inotify_parse import RawEvent, parse
from livelift.capture.queue import NotificationQueue
from livelift.errors import PreflightError, StateError
from livelift.model.entry import inode_of, volume_of
from livelift.platform.linux.inotify import (
    ATTRIB,
    CLOSE_WRITE,
    CREATE,
    DELETE,
    DELETE_SELF,
    EXCL_UNLINK,
    IGNORED,
    ISDIR,
    MODIFY,
    MOVE_SELF,
    MOVED_FROM,
    MOVED_TO,
    ONLYDIR,
    Q_OVERFLOW,
    UNMOUNT,
    inotify_add_watch,
    inotify_init,
)
from livelift.ports import Dirty, Event, Lost, Named, Op, WatchedVolume

BUFFER = 256 << 10

PAIRING = 0.010
"""Seconds to wait for the second half of a rename. The kernel queues the halves one after the other while it holds both
directories (fsnotify_move), so they are microseconds apart unless the renaming task lost its processor in between."""

MASK = (
    CREATE | DELETE | MOVED_FROM | MOVED_TO | MODIFY | CLOSE_WRITE | ATTRIB | DELETE_SELF | MOVE_SELF
    | ONLYDIR | EXCL_UNLINK
)  # fmt: skip

LIMIT = "the limit of inotify watches is reached: raise fs.inotify.max_user_watches, then resync"


class InotifyCapture:
    """A `livelift.ports.Capture`. ``watch_directory`` and ``sync`` may be called from any thread, the rest from one.

    Events name (parent, name); ``child`` and, but for directories themselves, ``oid`` are 0.
    """

    name = "inotify"
    promise = "converges by rescans; a cut needs the fence and a final scan"
    blind_to: tuple[str, ...] = ("mmap", "inode-flags", "project-id", "hard-links-elsewhere")

    def __init__(self) -> None:
        self._instance = -1  # owned by the queue once there is one
        self._queue: NotificationQueue | None = None
        self._ignore: Callable[[bytes], bool] = lambda _: False
        self._lock = threading.Lock()  # the walk adds watches while the reader looks them up
        self._oids: dict[int, int] = {}  # watch to object id; of our own files a negative number
        self._lost: deque[Event] = deque()

    def start(self, volumes: Iterable[WatchedVolume], ignore: Callable[[bytes], bool]) -> None:
        """Directories for whose path ``ignore`` is true get no watch. Volumes come with their directories."""
        self._ignore = ignore
        try:
            self._instance = inotify_init()
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            raise PreflightError(
                "no inotify instance is left for this user", remedy="raise fs.inotify.max_user_instances"
            ) from error
        self._queue = NotificationQueue(self._instance, BUFFER, self._watch_own)

    def watch_directory(self, oid: int, path: bytes) -> None:
        """Watch the directory. If that fails `Lost` for it follows: no watch, or another object, at this path.

        The watch is set on the opened directory, so the object is the right one even if the path changes meanwhile.
        Links are followed: the path may be one in /proc/self/fd, and the inode tells whether it led to the right one.
        """
        queue = self._opened()
        if self._ignore(path):
            return
        reason = ""
        try:
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if os.fstat(fd).st_ino != inode_of(oid):
                    reason = "another directory is at its path now"
                else:
                    with self._lock:
                        self._oids[inotify_add_watch(self._instance, b"/proc/self/fd/%d" % fd, MASK)] = oid
            finally:
                os.close(fd)
        except OSError as error:
            reason = LIMIT if error.errno == errno.ENOSPC else f"cannot watch it: {error.strerror}"
        if reason:
            self._lost.append(Lost(oid, volume_of(oid), reason, time.time_ns()))
            queue.wake()

    def watches(self) -> int:
        """How many directories are watched, to compare with the limit."""
        return len(self._oids)

    def read(self, timeout: float) -> list[Event]:
        return self._opened().read(timeout, self._events)

    def sync(self, token: int) -> None:
        self._opened().sync(token)

    def close(self) -> None:
        if self._queue is not None:
            self._queue.close()
            self._queue = None
        self._oids.clear()
        self._lost.clear()

    def _opened(self) -> NotificationQueue:
        if self._queue is None:
            raise StateError("the capture is not started, or closed")
        return self._queue

    def _watch_own(self, file: int, slot: int) -> None:
        with self._lock:
            self._oids[inotify_add_watch(self._instance, b"/proc/self/fd/%d" % file, ATTRIB)] = -1 - slot

    def _events(self, buffer: bytes) -> list[Event]:
        now = time.time_ns()
        events: list[Event] = []
        while self._lost:
            events.append(self._lost.popleft())
        raw, whole = parse(buffer)
        moves = _halves(raw)
        deadline = time.monotonic() + PAIRING
        while whole and moves and (remaining := deadline - time.monotonic()) > 0:
            self._opened().wait(remaining)
            more, whole = parse(self._opened().take())
            raw += more
            moves = _halves(raw)
        arrivals = {event.cookie: event for event in raw if event.mask & MOVED_TO}
        seen: set[tuple[int, bytes, bool]] = set()
        paired: set[int] = set()
        for event in raw:
            if event.mask & Q_OVERFLOW:
                events.append(Lost(0, -1, "queue overflow", now))
                continue
            oid = self._oid(event.watch)
            if oid < 0:
                events += self._opened().synced(-1 - oid)
            elif event.mask & IGNORED:
                with self._lock:
                    self._oids.pop(event.watch, None)
            elif oid == 0:
                continue  # an event that was queued before the watch was removed
            elif event.mask & UNMOUNT:
                events.append(Lost(0, volume_of(oid), "unmounted", now))
            elif event.mask & MOVED_TO and event.cookie in paired:
                continue
            elif (
                event.mask & MOVED_FROM
                and (arrival := arrivals.get(event.cookie))
                and (to := self._oid(arrival.watch)) > 0
            ):
                paired.add(event.cookie)
                is_dir = event.mask & ISDIR != 0
                events.append(Named(Op.RENAMED, oid, event.name, 0, to, arrival.name, is_dir, b"", now))
            elif op := _operation(event.mask):
                events.append(Named(op, oid, event.name, 0, 0, b"", event.mask & ISDIR != 0, b"", now))
            else:
                content = event.mask & (MODIFY | CLOSE_WRITE) != 0
                key = (oid, event.name, content)
                if key not in seen and (oid, event.name, True) not in seen:
                    seen.add(key)
                    events.append(_dirty(oid, event.name, content, now))
        if not whole:
            events.append(Lost(0, -1, "the kernel wrote an event that we cannot read", now))
        return events

    def _oid(self, watch: int) -> int:
        oid = self._oids.get(watch)
        if oid is None:
            with self._lock:  # the walk may be between the system call and the entry
                oid = self._oids.get(watch, 0)
        return oid


def _halves(raw: list[RawEvent]) -> bool:
    """Is there a MOVED_FROM whose MOVED_TO has not come?"""
    cookies = {event.cookie for event in raw if event.mask & MOVED_FROM}
    return bool(cookies) and not cookies <= {event.cookie for event in raw if event.mask & MOVED_TO}


def _operation(mask: int) -> Op | None:
    if mask & CREATE:
        return Op.CREATED
    if mask & (DELETE | MOVED_FROM):  # MOVED_FROM alone: moved to where nobody watches
        return Op.REMOVED
    return Op.TOUCHED if mask & MOVED_TO else None


def _dirty(oid: int, name: bytes, content: bool, now: int) -> Dirty:
    """Without a name it is about the directory itself, also moved or deleted: nobody watches a root's parent."""
    return Dirty(0, content, oid, name, b"", now) if name else Dirty(oid, False, 0, b"", b"", now)
