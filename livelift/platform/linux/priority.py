"""Step back behind the workload: nice value and idle input/output class. setpriority(2), ioprio_set(2)."""

from __future__ import annotations

import os
from typing import Final

from livelift.platform.linux.libc import INT, LONG, SYSCALLS, failed, function

_WHO_PROCESS: Final = 1
_CLASS_SHIFT: Final = 13
IDLE: Final = 3
BEST_EFFORT: Final = 2

_syscall = function("syscall", LONG, INT, INT, INT, restype=LONG)


def lower_priority(nice: int = 10, *, idle_io: bool = True) -> None:
    """For every thread of this process, and so for those that they start later (a nice value is per thread on Linux).

    Only ever lowers. The idle class counts with the BFQ and mq-deadline schedulers; others ignore it.
    OSError only for what cannot fail by permission: lowering needs none.
    """
    for task in os.listdir("/proc/self/task"):
        try:
            if os.getpriority(os.PRIO_PROCESS, int(task)) < nice:
                os.setpriority(os.PRIO_PROCESS, int(task), nice)
            if idle_io:
                set_io_class(int(task), IDLE)
        except ProcessLookupError:  # the thread ended meanwhile
            continue


def normal_priority() -> None:
    """The calling thread alone is again what a process usually is. PermissionError: for that it takes CAP_SYS_NICE."""
    os.setpriority(os.PRIO_PROCESS, 0, 0)
    set_io_class(0, BEST_EFFORT, 4)


def set_io_class(task: int, io_class: int, level: int = 0) -> None:
    """``task`` 0 = the calling thread. No effect on an architecture whose call number is not known."""
    if "ioprio_set" in SYSCALLS:
        value = io_class << _CLASS_SHIFT | level
        if _syscall(SYSCALLS["ioprio_set"], _WHO_PROCESS, task, value) < 0:
            raise failed()


def io_class(task: int = 0) -> int | None:
    """The class (0 none, 1 real time, 2 best effort, 3 idle), None where it cannot be asked."""
    if "ioprio_get" not in SYSCALLS:
        return None
    value = int(_syscall(SYSCALLS["ioprio_get"], _WHO_PROCESS, task, 0))
    if value < 0:
        raise failed()
    return value >> _CLASS_SHIFT


