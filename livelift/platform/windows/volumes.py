"""Volumes: where they are mounted, what they are, how they are opened (GetVolumePathNameW, GetVolumeInformationW)."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from livelift.platform.windows import dll

_path_name = dll.win32("kernel32", "GetVolumePathNameW", dll.TEXT, dll.POINTER, dll.DWORD)
_mount_name = dll.win32("kernel32", "GetVolumeNameForVolumeMountPointW", dll.TEXT, dll.POINTER, dll.DWORD)
_information = dll.win32(
    "kernel32", "GetVolumeInformationW", dll.TEXT, dll.POINTER, dll.DWORD, dll.POINTER, dll.POINTER, dll.POINTER,
    dll.POINTER, dll.DWORD,
)  # fmt: skip


class Volume(NamedTuple):
    """``device``: ``\\\\?\\Volume{GUID}`` without a backslash at the end, or ``\\\\.\\C:`` where it has no GUID.
    ``flags``: FILE_SUPPORTS_* and the like of GetVolumeInformationW."""

    mountpoint: str
    device: str
    filesystem: str
    serial: int
    flags: int


def volume_of(path: str) -> Volume:
    """The volume that holds a path. OSError: there is no such path or volume."""
    buffer = ctypes.create_unicode_buffer(1024)
    _path_name(path, buffer, 1024)
    mountpoint = buffer.value
    try:
        _mount_name(mountpoint, buffer, 1024)
        device = buffer.value.rstrip("\\")
    except OSError:  # a drive letter that subst(1) or a network redirector made
        device = "\\\\.\\" + mountpoint.rstrip("\\")
    name = ctypes.create_unicode_buffer(64)
    serial, flags = ctypes.c_uint32(), ctypes.c_uint32()
    _information(mountpoint, None, 0, ctypes.byref(serial), None, ctypes.byref(flags), name, 64)
    return Volume(mountpoint, device, name.value, serial.value, flags.value)
