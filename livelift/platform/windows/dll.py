"""The Windows libraries, loaded at the first call, and the one way to call them: a failed call is an OSError.

Importable everywhere; calling anything on another system is an OSError that says so. Handles are ints, never ctypes
objects. ``winerror`` of an OSError is the Win32 code (an NTSTATUS is translated by RtlNtStatusToDosError).
"""

from __future__ import annotations

import ctypes
import errno
import sys
from collections.abc import Callable
from typing import Any, Final

HANDLE: Final = ctypes.c_void_p
DWORD: Final = ctypes.c_uint32
ULONG: Final = ctypes.c_uint32
BOOL: Final = ctypes.c_int
INT: Final = ctypes.c_int
I64: Final = ctypes.c_int64
TEXT: Final = ctypes.c_wchar_p
POINTER: Final = ctypes.c_void_p
STATUS: Final = ctypes.c_uint32

INVALID: Final = ctypes.c_void_p(-1).value or 0
"""INVALID_HANDLE_VALUE."""

Call = Callable[..., Any]
Check = Callable[[Any], bool]


def _load(library: str) -> Any:
    if sys.platform != "win32":
        raise OSError(errno.ENOSYS, f"{library} is a library of Windows; this is {sys.platform}")
    else:
        return ctypes.WinDLL(library, use_last_error=True)


def _function(library: str, name: str, result: Any, arguments: tuple[Any, ...]) -> Call:
    found: list[Any] = []

    def call(*values: Any) -> Any:
        if not found:
            function = _load(library)[name]
            function.restype, function.argtypes = result, arguments
            found.append(function)
        return found[0](*values)

    return call


def win32(library: str, name: str, *arguments: Any, result: Any = BOOL, fails: Check = lambda value: not value) -> Call:
    """A function that sets the last error when ``fails`` is true of its result: OSError then."""
    raw = _function(library, name, result, arguments)

    def call(*values: Any) -> Any:
        value = raw(*values)
        if fails(value):
            raise last_error()
        return value

    return call


def returns_code(library: str, name: str, *arguments: Any) -> Call:
    """A function whose result is the Win32 error code itself (registry and security functions): OSError if not 0."""
    raw = _function(library, name, ctypes.c_long, arguments)

    def call(*values: Any) -> None:
        code = raw(*values)
        if code:
            raise error(code)

    return call


def native(name: str, *arguments: Any) -> Call:
    """A function of ntdll that returns an NTSTATUS, unchecked: see `check_status`."""
    return _function("ntdll", name, STATUS, arguments)


def plain(library: str, name: str, *arguments: Any, result: Any) -> Call:
    """A function that cannot fail, or whose result the caller judges."""
    return _function(library, name, result, arguments)


def under_wine() -> bool:
    """Whether this Windows is Wine: its ntdll says so."""
    if sys.platform != "win32":
        return False
    else:
        return hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")


_to_win32 = plain("ntdll", "RtlNtStatusToDosError", STATUS, result=ULONG)

BUFFER_OVERFLOW: Final = 0x80000005
"""STATUS_BUFFER_OVERFLOW, a warning: the fixed part is there, a name or list at its end was cut."""
NO_MORE_FILES: Final = 0x80000006
TYPE_MISMATCH: Final = 0xC0000024
"""STATUS_OBJECT_TYPE_MISMATCH."""
NO_EAS: Final = 0xC0000052
"""STATUS_NO_EAS_ON_FILE."""
NO_MORE_EAS: Final = 0x80000012
"""STATUS_NO_MORE_EAS."""


def check_status(status: int, *allowed: int) -> int:
    """The status if it is a success or one of ``allowed``; otherwise OSError with the Win32 code it stands for."""
    if status >> 30 >= 2 and status not in allowed:
        raise error(_to_win32(status), f"status {status:#010x}")
    return status


def last_error() -> OSError:
    if sys.platform != "win32":
        raise OSError(errno.ENOSYS, "there is no last error on this system")
    else:
        return error(ctypes.get_last_error())


def error(code: int, detail: str = "") -> OSError:
    """The OSError of a Win32 code; Python derives errno from it, so FileNotFoundError and the like work."""
    if sys.platform != "win32":
        return OSError(errno.EIO, f"Win32 error {code} {detail}".strip())
    else:
        text = ctypes.FormatError(code).strip()
        return OSError(0, f"{text} ({detail})" if detail else text, None, code)


def winerror(problem: OSError) -> int:
    """The Win32 code of an OSError, 0 if it has none."""
    return getattr(problem, "winerror", None) or 0


def open_descriptor(handle: int, flags: int) -> int:
    """A C runtime descriptor that owns the handle. OSError: the table of 8192 is full (EMFILE)."""
    if sys.platform != "win32":
        raise OSError(errno.ENOSYS, "handles are of Windows")
    else:
        import msvcrt

        return msvcrt.open_osfhandle(handle, flags)


def handle_of(fd: int) -> int:
    """The handle behind a descriptor. OSError: EBADF."""
    if sys.platform != "win32":
        raise OSError(errno.ENOSYS, "handles are of Windows")
    else:
        import msvcrt

        return msvcrt.get_osfhandle(fd)
