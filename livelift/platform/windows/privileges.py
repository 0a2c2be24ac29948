"""The rights that the agent needs on Windows, switched on in its own token (OpenProcessToken,
AdjustTokenPrivileges). Each is held by administrators but off until asked for."""

from __future__ import annotations

import ctypes
from typing import Final

from livelift.platform.windows import dll

NEEDED: Final = {
    "SeBackupPrivilege": "read every file whatever its ACL says",
    "SeRestorePrivilege": "load and replace hives, write owners",
    "SeSecurityPrivilege": "read the auditing part (SACL) of security descriptors",
    "SeManageVolumePrivilege": "read the USN journal and the volume",
}

_TOKEN: Final = 0x28  # TOKEN_ADJUST_PRIVILEGES | TOKEN_QUERY
_ENABLED: Final = 2
_NOT_ALL_ASSIGNED: Final = 1300


class _Privilege(ctypes.Structure):
    _fields_ = (
        ("count", ctypes.c_uint32),
        ("low", ctypes.c_uint32),
        ("high", ctypes.c_int32),
        ("attributes", ctypes.c_uint32),
    )


class _Set(ctypes.Structure):
    """PRIVILEGE_SET of one."""

    _fields_ = (
        ("count", ctypes.c_uint32),
        ("control", ctypes.c_uint32),
        ("low", ctypes.c_uint32),
        ("high", ctypes.c_int32),
        ("attributes", ctypes.c_uint32),
    )


_process = dll.plain("kernel32", "GetCurrentProcess", result=dll.HANDLE)
_open = dll.win32("advapi32", "OpenProcessToken", dll.HANDLE, dll.DWORD, dll.POINTER)
_lookup = dll.win32("advapi32", "LookupPrivilegeValueW", dll.TEXT, dll.TEXT, dll.POINTER)
_adjust = dll.plain(
    "advapi32", "AdjustTokenPrivileges", dll.HANDLE, dll.BOOL, dll.POINTER, dll.DWORD, dll.POINTER, dll.POINTER,
    result=dll.BOOL,
)  # fmt: skip
_check = dll.win32("advapi32", "PrivilegeCheck", dll.HANDLE, dll.POINTER, dll.POINTER)
_close = dll.win32("kernel32", "CloseHandle", dll.HANDLE)


def enable(*names: str) -> list[str]:
    """Switch privileges on; those that the token does not hold come back."""
    return [name for name in names if not _switch(name)]


def _switch(name: str) -> bool:
    luid = _luid(name)
    token = _token()
    try:
        wanted = _Privilege(1, luid & 0xFFFFFFFF, luid >> 32, _ENABLED)
        if not _adjust(token, 0, ctypes.byref(wanted), 0, None, None):
            raise dll.last_error()
        # It also "succeeds" when the token lacks the privilege; only the last error tells (AdjustTokenPrivileges).
        return dll.winerror(dll.last_error()) != _NOT_ALL_ASSIGNED
    finally:
        _close(token)


def enabled(name: str) -> bool:
    luid = _luid(name)
    token = _token()
    try:
        wanted = _Set(1, 1, luid & 0xFFFFFFFF, luid >> 32, 0)
        result = ctypes.c_int()
        _check(token, ctypes.byref(wanted), ctypes.byref(result))
        return bool(result.value)
    finally:
        _close(token)


def _luid(name: str) -> int:
    value = ctypes.c_uint64()
    _lookup(None, name, ctypes.byref(value))
    return value.value


def _token() -> int:
    token = ctypes.c_void_p()
    _open(_process(), _TOKEN, ctypes.byref(token))
    return token.value or 0
