"""Capture by fanotify(7): names and dirty marks of whole file systems; Linux 5.9, from 5.17 on with child objects.

One group, one mark for each file system, nothing to set up for a directory, nothing written to the source. A late-read
mode: it says what to look at, not what was written.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable

from livelift.capture.fanotify_parse import parse
from livelift.capture.fanotify_volumes import ObjectIds, mark_volumes
from livelift.capture.queue import NotificationQueue
from livelift.capture.repeats import Repeats
from livelift.errors import PreflightError, StateError
from livelift.platform.linux.fanotify import (
    ATTRIB,
    CLASS_NOTIF,
    CLOEXEC,
    CREATE,
    DELETE,
    MARK_ADD,
    MARK_INODE,
    MODIFY,
    MOVED_FROM,
    MOVED_TO,
    NONBLOCK,
    ONDIR,
    RENAME,
    REPORT_DFID_NAME,
    REPORT_DFID_NAME_TARGET,
    REPORT_FID,
    UNLIMITED_QUEUE,
    fanotify_init,
    fanotify_mark,
)
from livelift.ports import Dirty, Event, Named, WatchedVolume

BUFFER = 256 << 10
"""Bytes for each read: about 2,500 events, 8 ms of our time."""

LONGEST = 1024
"""No event is longer: 24 bytes, three records of 20 bytes with a handle of up to 128, two names of up to 256. A read
that leaves this much of its buffer free has emptied the queue (fs/notify/fanotify/fanotify_user.c, fanotify_read)."""

_EVENTS = CREATE | DELETE | MODIFY | ATTRIB | ONDIR
FLAVOURS = {
    "target": (REPORT_DFID_NAME_TARGET, _EVENTS | RENAME),
    "name": (REPORT_DFID_NAME | REPORT_FID, _EVENTS | MOVED_FROM | MOVED_TO),
}
"""Init flags and mask, best first. "target": 5.17, and where it was backported. "name": 5.9; no child objects."""


class FanotifyCapture:
    """A `livelift.ports.Capture`. Thread use as there; ``sync`` may be called from any thread.

    ``flavours``: which of FLAVOURS to try, in order. ``ignore_pid``: events of this process are dropped (0: none).
    ``limited_queue``: let the kernel's queue overflow at fs.fanotify.max_queued_events, for tests of the loss path.
    """

    name = "fanotify"
    promise = "converges; a cut needs the fence"
    blind_to: tuple[str, ...] = ("mmap", "inode-flags", "project-id")

    def __init__(
        self, *, flavours: Iterable[str] = tuple(FLAVOURS), ignore_pid: int = 0, limited_queue: bool = False
    ) -> None:
        self._flavours = tuple(flavours)
        self._ignore_pid = ignore_pid
        self._limit = 0 if limited_queue else UNLIMITED_QUEUE
        self._group = -1  # owned by the queue once there is one
        self._queue: NotificationQueue | None = None
        self._oids = ObjectIds()
        self._repeats = Repeats(lambda: self._opened().length())
        self.flavour = ""

    def start(self, volumes: Iterable[WatchedVolume], ignore: Callable[[bytes], bool]) -> None:
        """Mark every volume. ``ignore`` is not asked: who reads the events knows which directories belong to the job.

        PreflightError: no right, too old a kernel, or a file system that fanotify cannot report on.
        """
        volumes = list(volumes)
        for flavour in self._flavours:
            flags, mask = FLAVOURS[flavour]
            try:
                self._open(flags, mask, volumes)
            except OSError as error:
                self.close()
                if error.errno != errno.EINVAL:
                    raise _refused(error) from error
            except BaseException:
                self.close()
                raise
            else:
                self.flavour = flavour
                return
        raise PreflightError("fanotify of this kernel reports no names (Linux < 5.9)", remedy="use --capture inotify")

    def _open(self, flags: int, mask: int, volumes: list[WatchedVolume]) -> None:
        self._group = fanotify_init(CLASS_NOTIF | CLOEXEC | NONBLOCK | self._limit | flags)
        self._queue = NotificationQueue(self._group, BUFFER, self._watch_own)
        mark_volumes(self._group, mask, volumes, self._oids)

    def watch_directory(self, oid: int, path: bytes) -> None:
        """Nothing to do: the mark covers the file system."""

    def read(self, timeout: float) -> list[Event]:
        return self._opened().read(timeout, self._parse)

    def sync(self, token: int) -> None:
        self._opened().sync(token)

    def close(self) -> None:
        if self._queue is not None:
            self._queue.close()
            self._queue = None
        self._oids.close()

    def _opened(self) -> NotificationQueue:
        if self._queue is None:
            raise StateError("the capture is not started, or closed")
        return self._queue

    def _parse(self, buffer: bytes) -> list[Event]:
        events = parse(buffer, self._oids, time.time_ns(), self._ignore_pid)
        queue, repeats = self._opened(), self._repeats
        result: list[Event] = []
        for event in events:
            if isinstance(event, Named):
                repeats.note(event)
            elif isinstance(event, Dirty) and event.oid < 0:
                result += repeats.looks()
                result += queue.synced(-1 - event.oid)
                continue
            result.append(event)
        result += repeats.looks()
        repeats.read_ended(len(events), len(buffer) < BUFFER - LONGEST)
        return result

    def _watch_own(self, file: int, slot: int) -> None:
        """For `NotificationQueue`: our own memory file, known by a negative object id."""
        fanotify_mark(self._group, MARK_ADD | MARK_INODE, ATTRIB, file)
        self._oids.add_own(file, -1 - slot)


def _refused(error: OSError) -> PreflightError:
    if error.errno == errno.EPERM:
        return PreflightError("fanotify needs CAP_SYS_ADMIN", remedy="run the agent as root, not in a container")
    if error.errno == errno.ENOSYS:
        return PreflightError("this kernel has no fanotify", remedy="use --capture inotify")
    return PreflightError(f"fanotify: {error}", remedy="use --capture inotify")
