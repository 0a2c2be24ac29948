"""Which directories wait to be listed, and how much of the walk is under way."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from livelift.source.live import DirectoryHandle

LOOK: Final = 0.05
"""Seconds between two looks whether the time of what was put off has come."""


class Listing:
    """One directory being reconciled: its bracket closes when its last file is in the log."""

    __slots__ = ("gap", "handle", "left", "oid")

    def __init__(self, oid: int, handle: DirectoryHandle, gap: int) -> None:
        self.oid = oid
        self.gap = gap  # the opening of its gap that this reading makes good; not one that it opens itself
        self.handle = handle
        self.left = 1  # the listing itself


class WalkQueue:
    """A stack: depth first keeps it short. ``lock`` also guards what the walker counts per directory. ``reached``: how
    far the follower of an in-kernel capture has come (0: another capture); ``now``: monotonic seconds."""

    def __init__(
        self,
        roots: Callable[[], list[int]],
        reached: Callable[[], int] = lambda: 0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lock = threading.Condition()
        self._roots = roots
        self._reached = reached
        self._now = now
        self._stack: deque[int] = deque()
        self._deep: dict[int, bool] = {}  # of those that wait: each waits once
        self._put_off: list[tuple[float, int, Callable[[], None]]] = []  # (when, position of the capture, what)
        self._ripened = 0.0
        self._active = 0

    def __len__(self) -> int:
        return len(self._stack) + len(self._put_off)

    def add(self, oid: int, deep: bool) -> None:
        """A directory (0: every root); ``deep``: and every known directory below it."""
        with self.lock:
            for each in [oid] if oid else self._roots():
                if each not in self._deep:
                    self._stack.append(each)
                self._deep[each] = deep or self._deep.get(each, False)
            self.lock.notify_all()

    def put_off(self, oid: int, deep: bool, delay: float, position: int = 0) -> None:
        """`add` a directory ``delay`` seconds from now, and not before the follower has come to ``position``."""
        self.later(lambda: self.add(oid, deep), delay, position)

    def later(self, action: Callable[[], None], delay: float, position: int = 0) -> None:
        """As `put_off`, anything: a thread that takes does it. Until then the walk is not idle."""
        with self.lock:
            self._put_off.append((self._now() + delay, position, action))

    def _ripen(self) -> None:
        with self.lock:
            now, reached = self._now(), self._reached()
            if not self._put_off or now < self._ripened + LOOK:
                return
            self._ripened = now
            ripe = [each for each in self._put_off if each[0] <= now and each[1] <= reached]
            self._put_off = [each for each in self._put_off if each[0] > now or each[1] > reached]
            self._active += len(ripe)
        for _, _, action in ripe:
            try:
                action()
            finally:
                self.count(-1)

    def take(self, most: int, timeout: float) -> list[tuple[int, bool]]:
        """The next ones, counted as under way; none after ``timeout`` seconds. Half of what waits at most: the other
        walker wants some too."""
        self._ripen()
        with self.lock:
            if not self._stack:
                self.lock.wait(timeout)
            count = min(most, (len(self._stack) + 1) // 2)
            self._active += count
            taken = []
            for _ in range(count):
                oid = self._stack.pop()
                taken.append((oid, self._deep.pop(oid)))
            return taken

    def idle(self) -> bool:
        with self.lock:
            return not self._stack and not self._put_off and not self._active

    def count(self, change: int) -> None:
        """So many parts of the walk more (or fewer) are under way."""
        with self.lock:
            self._active += change
            if not self._active:
                self.lock.notify_all()
