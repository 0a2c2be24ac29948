"""One agent per state directory: flock(2) on a file in it, so the kernel lets go when the agent dies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from livelift.errors import LockedError
from livelift.platform.system import lock_exclusive, os

LOCK = b"agent.lock"


@contextmanager
def sole(directory: bytes, patience: float = 0.0) -> Iterator[None]:
    """Hold a state directory (made if missing, mode 0700). LockedError if another process still does after
    ``patience`` seconds."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    fd = os.open(os.path.join(directory, LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + patience
        while not _take(fd):
            if time.monotonic() >= deadline:
                raise LockedError(
                    f"another agent runs in {os.fsdecode(directory)}",
                    remedy="ask it (livelift status --state DIR), or stop it first, or give another --state",
                )
            time.sleep(0.1)
        yield
    finally:
        os.close(fd)


def _take(fd: int) -> bool:
    try:
        lock_exclusive(fd)
    except BlockingIOError:
        return False
    return True
