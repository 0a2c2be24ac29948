"""Loading kernel modules from files: finit_module(2)."""

from __future__ import annotations

import ctypes
import errno
import os

from livelift.platform.linux.libc import INT, LONG, SYSCALLS, failed, function

_syscall = function("syscall", LONG, INT, ctypes.c_char_p, INT, restype=LONG)


def load_module(path: str) -> None:
    """A module that is there already, or built in, is no error. OSError ENOSYS where the call's number is not known."""
    if "finit_module" not in SYSCALLS:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), path)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _syscall(SYSCALLS["finit_module"], fd, b"", 0) < 0:
            error = failed(os.fsencode(path))
            if error.errno != errno.EEXIST:
                raise error
    finally:
        os.close(fd)
