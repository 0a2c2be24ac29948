"""Registry hives as files: saving a loaded one, loading one to validate it, replacing one at the next boot.

RegSaveKeyExW, RegLoadKeyW, RegUnLoadKeyW, RegReplaceKeyW (winreg.h); SeBackupPrivilege for the first,
SeRestorePrivilege for the others. Wine 8 answers differently (docs/internals/windows.md): only a real machine shows
that these work.
"""

from __future__ import annotations

import ctypes
from typing import Final

from livelift.platform.windows import dll

LOCAL_MACHINE: Final = 0x80000002
USERS: Final = 0x80000003
_ROOTS: Final = {"MACHINE": LOCAL_MACHINE, "USER": USERS}
LATEST_FORMAT: Final = 2
"""REG_LATEST_FORMAT: regf 1.3 to 1.6 as the running system keeps it; REG_STANDARD_FORMAT would write 1.3."""
HIVE_LIST: Final = "SYSTEM\\CurrentControlSet\\Control\\hivelist"

_BACKUP: Final = 4  # REG_OPTION_BACKUP_RESTORE: whatever the key's ACL says
_READ: Final = 0x20019

_open = dll.returns_code("advapi32", "RegOpenKeyExW", dll.HANDLE, dll.TEXT, dll.DWORD, dll.DWORD, dll.POINTER)
_create = dll.returns_code(
    "advapi32", "RegCreateKeyExW", dll.HANDLE, dll.TEXT, dll.DWORD, dll.TEXT, dll.DWORD, dll.DWORD, dll.POINTER,
    dll.POINTER, dll.POINTER,
)  # fmt: skip
_close = dll.returns_code("advapi32", "RegCloseKey", dll.HANDLE)
_save = dll.returns_code("advapi32", "RegSaveKeyExW", dll.HANDLE, dll.TEXT, dll.POINTER, dll.DWORD)
_load = dll.returns_code("advapi32", "RegLoadKeyW", dll.HANDLE, dll.TEXT, dll.TEXT)
_unload = dll.returns_code("advapi32", "RegUnLoadKeyW", dll.HANDLE, dll.TEXT)
_replace = dll.returns_code("advapi32", "RegReplaceKeyW", dll.HANDLE, dll.TEXT, dll.TEXT, dll.TEXT)
_enum = dll.plain(
    "advapi32", "RegEnumValueW", dll.HANDLE, dll.DWORD, dll.POINTER, dll.POINTER, dll.POINTER, dll.POINTER, dll.POINTER,
    dll.POINTER, result=ctypes.c_long,
)  # fmt: skip
_NO_MORE_ITEMS: Final = 259


def loaded() -> dict[str, str]:
    r"""Registry path (``\REGISTRY\MACHINE\SYSTEM``) -> file (``\Device\HarddiskVolume2\Windows\...\config\SYSTEM``).

    Volatile hives have no file and are left out. OSError: the list cannot be read."""
    key = ctypes.c_void_p()
    _open(LOCAL_MACHINE, HIVE_LIST, 0, _READ, ctypes.byref(key))
    found: dict[str, str] = {}
    try:
        for number in range(100_000):
            name = ctypes.create_unicode_buffer(16384)
            length, kind, size = ctypes.c_uint32(16384), ctypes.c_uint32(), ctypes.c_uint32(32768)
            data = ctypes.create_string_buffer(32768)
            code = _enum(key, number, name, ctypes.byref(length), None, ctypes.byref(kind), data, ctypes.byref(size))
            if code == _NO_MORE_ITEMS:
                break
            if code:
                raise dll.error(code)
            path = data.raw[: size.value].decode("utf-16-le").rstrip("\0")
            if path:
                found[name.value] = path
    finally:
        _close(key)
    return found


def split_registry_path(path: str) -> tuple[int, str]:
    r"""Root key and the rest of ``\REGISTRY\MACHINE\SYSTEM``. ValueError: neither MACHINE nor USER."""
    parts = path.split("\\", 3)
    if len(parts) != 4 or parts[0] or parts[1].upper() != "REGISTRY" or parts[2].upper() not in _ROOTS or not parts[3]:
        raise ValueError(f"not the path of a hive: {path!r}")
    return _ROOTS[parts[2].upper()], parts[3]


def save(registry_path: str, file: str) -> None:
    """Write a consistent copy of a loaded hive to a new file. OSError: it exists, or the system refuses."""
    root, name = split_registry_path(registry_path)
    key, disposition = ctypes.c_void_p(), ctypes.c_uint32()
    _create(root, name, 0, None, _BACKUP, _READ, None, ctypes.byref(key), ctypes.byref(disposition))
    try:
        _save(key, file, None, LATEST_FORMAT)
    finally:
        _close(key)


def validate(file: str, scratch: str) -> None:
    """Let the running kernel load the hive under HKLM\\scratch and let it go again. OSError: it is not a hive to it.

    The file is written to (its log is replayed, its counters move): give it a copy."""
    _load(LOCAL_MACHINE, scratch, file)
    _unload(LOCAL_MACHINE, scratch)


def replace_at_boot(registry_path: str, new: str, old: str) -> None:
    """The hive's file is ``new`` from the next boot on; today's is kept as ``old``. All three on one volume."""
    root, name = split_registry_path(registry_path)
    key, disposition = ctypes.c_void_p(), ctypes.c_uint32()
    _create(root, name, 0, None, _BACKUP, _READ, None, ctypes.byref(key), ctypes.byref(disposition))
    try:
        _replace(key, None, new, old)
    finally:
        _close(key)
