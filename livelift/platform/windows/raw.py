"""The bytes of a volume itself (``\\\\.\\C:`` or ``\\\\?\\Volume{GUID}``), past every file's sharing and locks.

BitLocker delivers them decrypted here, unlike on the physical disk. What is in the system's cache only is not there:
`flush` first. Needs an administrator.
"""

from __future__ import annotations

from typing import Final

from livelift.platform.windows import dll, files, posix

_ALIGN: Final = 4096
"""A multiple of every sector size: reads of a volume must begin and end on sectors (CreateFileW)."""

_flush = dll.win32("kernel32", "FlushFileBuffers", dll.HANDLE)


class RawVolume:
    """OSError at the beginning: not allowed, or no such volume."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._fd = dll.open_descriptor(files.open_path(device, files.GENERIC_READ), 0x8000)

    def flush(self) -> None:
        """Have the system write out what it holds of this volume; that needs a handle with the right to write."""
        handle = files.open_path(self._device, files.GENERIC_READ | files.GENERIC_WRITE)
        try:
            _flush(handle)
        finally:
            files.close(handle)

    def read(self, offset: int, length: int) -> bytes:
        """Any offset and length; fewer bytes only at the volume's end."""
        start = offset // _ALIGN * _ALIGN
        stop = -(-(offset + length) // _ALIGN) * _ALIGN
        return posix.pread(self._fd, stop - start, start)[offset - start : offset - start + length]

    def close(self) -> None:
        posix.close(self._fd)
