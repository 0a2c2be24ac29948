"""A process whose pages are never fetched from a disk: mlockall(2)."""

from __future__ import annotations

from livelift.platform.linux.libc import INT, failed, function

_MCL_CURRENT = 1  # sys/mman.h
_MCL_FUTURE = 2

_mlockall = function("mlockall", INT)


def lock_memory() -> None:
    """All pages of now and of later. OSError without CAP_IPC_LOCK."""
    if _mlockall(_MCL_CURRENT | _MCL_FUTURE) < 0:
        raise failed()
