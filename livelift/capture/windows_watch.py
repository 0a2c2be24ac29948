"""Capture by ReadDirectoryChangesW alone: for volumes without a USN journal, and the second pair of eyes beside it."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from livelift.capture.windows_paths import SEPARATOR, PathTable, folded, split
from livelift.errors import StateError
from livelift.model.entry import object_id, volume_of
from livelift.platform.windows import dll, files, notify
from livelift.platform.windows.information import fold_reference
from livelift.platform.windows.notify import Notice, parse_notices
from livelift.platform.windows.watch import OverflowedError, TreeWatch, Waker, wait_any
from livelift.ports import Dirty, Event, Lost, Named, Op, Synced, WatchedVolume

PROMISE: Final = (
    "converges: names and changes are told by path, content is found by block digests; a cut needs the fence"
)
BLIND: Final = ("mmap", "open-files", "extended-attributes")
"""Stores into mapped files; writes through a handle that stays open, which NTFS puts into the directory entry (and
so tells) only when it is closed; extended attributes, for which there is no filter here."""


class _Watched:
    def __init__(self, volume: WatchedVolume) -> None:
        self.volume = volume.index
        self.path = os.fsdecode(volume.mountpoint)
        self.watch = TreeWatch(self.path)
        try:
            self.on_volume = files.path_on_volume(self.watch.handle).rstrip(SEPARATOR)
            root = object_id(self.volume, fold_reference(files.information(self.watch.handle).reference))
        except BaseException:
            self.watch.close()
            raise
        self.table = PathTable(root)
        self.old: Notice | None = None  # the first half of a rename


class WatchCapture:
    """One thread reads; `watch_directory`, `sync` and `close` may come from others."""

    name = "watch"
    promise = PROMISE
    blind_to: tuple[str, ...] = BLIND

    def __init__(self) -> None:
        self._watched: list[_Watched] = []
        self._waker: Waker | None = None
        self._tokens: deque[int] = deque()
        self._lock = threading.Lock()

    def start(self, volumes: Iterable[WatchedVolume], ignore: Callable[[bytes], bool]) -> None:
        self._waker = Waker()
        try:
            for volume in volumes:
                self._watched.append(_Watched(volume))
        except BaseException:
            self.close()
            raise

    def watch_directory(self, oid: int, path: bytes) -> None:
        """``path`` names a descriptor, ``/proc/self/fd/N``: where that directory is now is asked of the system."""
        fd = int(path.rpartition(b"/")[2])
        where = files.path_on_volume(dll.handle_of(fd))
        for watched in self._watched:
            if watched.volume == volume_of(oid):
                inside = _below(where, watched.on_volume)
                if inside is not None:
                    with self._lock:
                        watched.table.learn(inside, oid)

    def read(self, timeout: float) -> list[Event]:
        waker = self._opened()
        tokens = len(self._tokens)
        events = self._drain()
        if not events and not tokens:
            wait_any([waker.event, *(w.watch.event for w in self._watched)], timeout)
            tokens = len(self._tokens)
            events = self._drain()
        # A notice is in the system's buffer before the call that caused it returns (FsRtlNotifyFullReportChange), and
        # the drain went on until every read was pending again.
        return events + [Synced(self._tokens.popleft()) for _ in range(tokens)]

    def sync(self, token: int) -> None:
        waker = self._opened()
        self._tokens.append(token)
        waker.set()

    def close(self) -> None:
        for watched in self._watched:
            watched.watch.close()
        self._watched.clear()
        if self._waker is not None:
            self._waker.close()
            self._waker = None

    def _opened(self) -> Waker:
        if self._waker is None:
            raise StateError("the capture is not started, or closed")
        return self._waker

    def _drain(self) -> list[Event]:
        events: list[Event] = []
        for watched in self._watched:
            while True:
                try:
                    raw = watched.watch.take()
                    if raw is None:
                        break
                    events += self._events(watched, parse_notices(raw))
                except OverflowedError:
                    watched.old = None
                    events.append(Lost(0, watched.volume, "queue overflow", time.time_ns()))
                except ValueError as error:
                    watched.old = None
                    events.append(Lost(0, watched.volume, str(error), time.time_ns()))
        return events

    def _events(self, watched: _Watched, notices: list[Notice]) -> list[Event]:
        now = time.time_ns()
        events: list[Event] = []
        seen: set[tuple[int, bytes]] = set()
        for notice in notices:
            old, watched.old = watched.old, None
            if notice.action == notify.RENAMED_NEW and old is not None:
                events += self._renamed(watched, old.path, notice.path, now)
                seen.clear()
                continue
            if old is not None:  # its second half lies outside of what is watched
                events += self._name(watched, Op.REMOVED, old.path, now)
            if notice.action == notify.RENAMED_OLD:
                watched.old = notice
            elif notice.action == notify.ADDED:
                events += self._name(watched, Op.CREATED, notice.path, now)
            elif notice.action == notify.REMOVED:
                events += self._name(watched, Op.REMOVED, notice.path, now)
            elif notice.action == notify.RENAMED_NEW:
                events += self._name(watched, Op.TOUCHED, notice.path, now)
            else:
                events += self._changed(watched, notice.path, seen, now)
        return events

    def _name(self, watched: _Watched, op: Op, path: bytes, now: int) -> list[Event]:
        parent, name = self._parent(watched, path)
        if op is Op.REMOVED:
            self._forget(watched, path)
        if not parent:
            return []
        return [Named(op, parent, name, time=now)]

    def _renamed(self, watched: _Watched, old: bytes, new: bytes, now: int) -> list[Event]:
        parent, name = self._parent(watched, old)
        with self._lock:
            is_dir = bool(watched.table.find(old))
            if is_dir:
                watched.table.moved(old, new)
        new_parent, new_name = self._parent(watched, new)
        if parent and new_parent:
            return [Named(Op.RENAMED, parent, name, 0, new_parent, new_name, is_dir, b"", now)]
        if parent:
            return [Named(Op.REMOVED, parent, name, is_dir=is_dir, time=now)]
        return [Named(Op.TOUCHED, new_parent, new_name, is_dir=is_dir, time=now)] if new_parent else []

    def _changed(self, watched: _Watched, path: bytes, seen: set[tuple[int, bytes]], now: int) -> list[Event]:
        with self._lock:
            directory = watched.table.find(path)
        if directory:
            return [Dirty(directory, False, 0, b"", b"", now)]
        parent, name = self._parent(watched, path)
        if not parent or (parent, name) in seen:
            return []
        seen.add((parent, name))
        return [Dirty(0, True, parent, name, b"", now)]

    def _parent(self, watched: _Watched, path: bytes) -> tuple[int, bytes]:
        directory, name = split(path)
        with self._lock:
            oid = watched.table.find(directory)
        # A directory that the walk has not reached is not in the log: what happens in it is read when it is listed.
        return oid, name

    def _forget(self, watched: _Watched, path: bytes) -> None:
        """A directory that is gone; unless the walk has meanwhile told of the one that took its place."""
        with self._lock:
            oid = watched.table.find(path)
        if oid and _object_at(watched, path) != oid:
            with self._lock:
                if watched.table.find(path) == oid:
                    watched.table.removed(path)


def _object_at(watched: _Watched, path: bytes) -> int:
    """What is at the path now; 0: nothing that can be opened."""
    try:
        handle = files.open_at(watched.watch.handle, path, files.LOOK)
    except OSError:
        return 0
    try:
        return object_id(watched.volume, fold_reference(files.information(handle).reference))
    finally:
        files.close(handle)


def _below(path: bytes, top: bytes) -> bytes | None:
    """The part of a path below another one; None if it is not below."""
    if not folded(path + SEPARATOR).startswith(folded(top + SEPARATOR)):
        return None
    return path[len(top) + 1 :]
