"""Programs of the staged system, and who may change it: one at a time, of whatever agent.

A build of an initramfs takes minutes. Without systemd, which ends all of a unit's processes with it, it outlives an
agent that is killed. So whoever changes the staged system holds a lock that its programs inherit: the kernel lets go
when the last of them has ended (flock(2)), and until then the next agent leaves the layers to it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from livelift.errors import LockedError
from livelift.platform.linux.host import lock_exclusive
from livelift.platform.linux.inside import SECONDS, run_inside

NAME: Final = "programs.lock"
WAIT: Final = 10.0
"""Seconds that what is about to end is waited for."""


class Programs:
    """``base``: the directory ``.livelift`` on the root's file system. ``run``: as `run_inside` (for tests)."""

    def __init__(self, base: str, run: Callable[..., str] = run_inside) -> None:
        self._path = f"{base}/{NAME}"
        self._run = run
        self._held: tuple[int, ...] = ()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """May be nested. LockedError: a program is at work that another agent has started."""
        fd = -1 if self._held else self._open()
        if fd < 0:
            yield
            return
        try:
            self._lock(fd)
            self._held = (fd,)
            yield
        finally:
            self._held = ()
            os.close(fd)

    def _open(self) -> int:
        """-1: the directory is gone, and all that was staged with it."""
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return -1

    def _lock(self, fd: int) -> None:
        deadline = time.monotonic() + WAIT
        while True:
            try:
                lock_exclusive(fd)
                return
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise LockedError(
                        "a program that an agent before this one has started is still at work in the staged system",
                        remedy=f"wait until it has ended, or end it (fuser -v {self._path} names it)",
                    ) from error
            time.sleep(0.1)

    def run(self, root_fd: int, arguments: tuple[str, ...], seconds: float = SECONDS) -> str:
        """See `run_inside`."""
        return self._run(root_fd, arguments, seconds, self._held)
