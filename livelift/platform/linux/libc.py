"""The C library, loaded once, and the one way to call it: a failed call is an OSError with errno and path."""

from __future__ import annotations

import ctypes
import os
import platform

_LIBC = ctypes.CDLL(None, use_errno=True)

_SYSCALLS = {  # /usr/include/asm/unistd_64.h and asm-generic/unistd.h; numbers from 424 on are the same everywhere
    "x86_64": {"ioprio_get": 252, "ioprio_set": 251, "openat2": 437, "finit_module": 313},
    "aarch64": {"ioprio_get": 31, "ioprio_set": 30, "openat2": 437, "finit_module": 273},
    "riscv64": {"ioprio_get": 31, "ioprio_set": 30, "openat2": 437, "finit_module": 273},
}
SYSCALLS = _SYSCALLS.get(platform.machine(), {"openat2": 437})
"""Numbers of the system calls that glibc has no function for. A missing one counts as ENOSYS."""

LONG = ctypes.c_long
INT = ctypes.c_int


def function(name: str, *argtypes: type, restype: type = ctypes.c_int) -> ctypes._NamedFuncPointer:
    """A C function with its types declared, so that 64-bit offsets are never cut to 32."""
    found = _LIBC[name]  # not getattr: that one is cached, and two callers of syscall(2) declare different types
    found.argtypes = argtypes
    found.restype = restype
    return found


def failed(path: bytes | None = None) -> OSError:
    """The OSError for the errno of the last C call of this thread."""
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path) if path is not None else OSError(number, os.strerror(number))
