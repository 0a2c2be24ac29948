"""ReadDirectoryChangesW over whole trees: overlapped reads on several directories, waited for together."""

from __future__ import annotations

import ctypes
from typing import Final

from livelift.platform.windows import dll, files

FILTER: Final = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x40 | 0x100
"""FILE_NOTIFY_CHANGE_FILE_NAME, _DIR_NAME, _ATTRIBUTES, _SIZE, _LAST_WRITE, _CREATION, _SECURITY."""

BUFFER: Final = 1 << 20
"""The system's own buffer for the handle gets the same size at the first call: 1 MiB holds about 10,000 notices. Only a
network share refuses more than 64 KiB, and those are not watched."""

_OVERLAPPED_FLAG: Final = 0x40000000
_PENDING: Final = 997
_ENUM_DIR: Final = 1022
_TIMEOUT: Final = 258
_LIST_DIRECTORY: Final = 0x1


class _Overlapped(ctypes.Structure):
    _fields_ = (
        ("internal", ctypes.c_void_p),
        ("internal_high", ctypes.c_void_p),
        ("offset", ctypes.c_uint64),
        ("event", ctypes.c_void_p),
    )


_read = dll.win32(
    "kernel32", "ReadDirectoryChangesW", dll.HANDLE, dll.POINTER, dll.DWORD, dll.BOOL, dll.DWORD, dll.POINTER,
    dll.POINTER, dll.POINTER,
)  # fmt: skip
_event = dll.win32("kernel32", "CreateEventW", dll.POINTER, dll.BOOL, dll.BOOL, dll.TEXT, result=dll.HANDLE)
_set = dll.win32("kernel32", "SetEvent", dll.HANDLE)
_reset = dll.win32("kernel32", "ResetEvent", dll.HANDLE)
_wait = dll.win32(
    "kernel32", "WaitForMultipleObjects", dll.DWORD, dll.POINTER, dll.BOOL, dll.DWORD,
    result=dll.DWORD, fails=lambda value: value == 0xFFFFFFFF,
)  # fmt: skip
_result = dll.win32("kernel32", "GetOverlappedResult", dll.HANDLE, dll.POINTER, dll.POINTER, dll.BOOL)
_cancel = dll.plain("kernel32", "CancelIoEx", dll.HANDLE, dll.POINTER, result=dll.BOOL)


class OverflowedError(Exception):
    """The system dropped notices of this directory: everything below it has to be looked at."""


class TreeWatch:
    """One directory with all below it. A read is always pending, so nothing is missed between two calls."""

    def __init__(self, path: str) -> None:
        """OSError: it cannot be opened, or its file system does not tell of changes."""
        self.handle = files.open_path(path, _LIST_DIRECTORY | files.READ_ATTRIBUTES, 3, _OVERLAPPED_FLAG)
        self.event = 0
        try:
            self.event = int(_event(None, 1, 0, None))
            self._buffer = ctypes.create_string_buffer(BUFFER)
            self._overlapped = _Overlapped(None, None, 0, self.event)
            self._issue()
        except BaseException:
            self.close()
            raise

    def _issue(self) -> None:
        _reset(self.event)
        _read(self.handle, self._buffer, BUFFER, 1, FILTER, None, ctypes.byref(self._overlapped), None)

    def take(self) -> bytes | None:
        """The notices of a finished read, and the next read is under way; None while it is pending.

        OverflowedError: dropped (the next read is under way). OSError: the watch is dead."""
        count = ctypes.c_uint32()
        try:
            _result(self.handle, ctypes.byref(self._overlapped), ctypes.byref(count), 0)
        except OSError as error:
            if dll.winerror(error) in (996, _PENDING):  # ERROR_IO_INCOMPLETE
                return None
            if dll.winerror(error) != _ENUM_DIR:
                raise
        raw = self._buffer.raw[: count.value]
        self._issue()
        if not raw:
            raise OverflowedError
        return raw

    def close(self) -> None:
        if self.handle:
            if self.event:
                count = ctypes.c_uint32()
                if _cancel(self.handle, None):
                    try:  # the buffer belongs to the system until the read has ended
                        _result(self.handle, ctypes.byref(self._overlapped), ctypes.byref(count), 1)
                    except OSError as error:
                        if dll.winerror(error) not in (995, _ENUM_DIR):  # ERROR_OPERATION_ABORTED
                            raise
                files.close(self.event)
            files.close(self.handle)
            self.handle = self.event = 0


class Waker:
    """An event that another thread sets to end a wait."""

    def __init__(self) -> None:
        self.event = int(_event(None, 0, 0, None))

    def set(self) -> None:
        _set(self.event)

    def close(self) -> None:
        files.close(self.event)


def wait_any(events: list[int], seconds: float) -> bool:
    """Wait for the first of at most 64 events; False at the timeout."""
    array = (ctypes.c_void_p * len(events))(*events)
    return bool(_wait(len(events), array, 0, max(int(seconds * 1000), 0)) != _TIMEOUT)
