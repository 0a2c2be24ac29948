"""The USN journal of an NTFS volume: its state, its records (FSCTL_QUERY_USN_JOURNAL, FSCTL_READ_USN_JOURNAL)."""

from __future__ import annotations

import ctypes
import struct
from typing import Final

from livelift.platform.windows import dll, files
from livelift.platform.windows.usn import JournalState, UsnRecord, parse_records, parse_state

QUERY: Final = 0x900F4
READ: Final = 0x900BB
CREATE: Final = 0x900E7
READ_FILE_USN: Final = 0x900EB

NOT_ACTIVE: Final = 1179
"""ERROR_JOURNAL_NOT_ACTIVE."""
DELETING: Final = 1178
"""ERROR_JOURNAL_DELETE_IN_PROGRESS."""
ENTRY_DELETED: Final = 1181
"""ERROR_JOURNAL_ENTRY_DELETED: the journal has wrapped over what was asked for."""
GONE: Final = frozenset({NOT_ACTIVE, DELETING, ENTRY_DELETED, 87})
"""After any of these records are missing; 87 ERROR_INVALID_PARAMETER is said to a journal id that is no longer."""

ROOM: Final = 1 << 20
SIZE: Final = 64 << 20
DELTA: Final = 8 << 20
"""Of a journal that we make: 64 MiB hold some 700,000 changes of names of ordinary length."""

_control = dll.win32(
    "kernel32", "DeviceIoControl", dll.HANDLE, dll.DWORD, dll.POINTER, dll.DWORD, dll.POINTER, dll.DWORD, dll.POINTER,
    dll.POINTER,
)  # fmt: skip


class Journal:
    """An open volume. ``device`` as `volumes.Volume` has it. OSError: not allowed (SeManageVolumePrivilege)."""

    def __init__(self, device: str) -> None:
        self._handle = files.open_path(device, files.GENERIC_READ | files.GENERIC_WRITE)

    def state(self) -> JournalState:
        """OSError NOT_ACTIVE: there is no journal; INVALID_FUNCTION: the file system has none."""
        return parse_state(self._ask(QUERY, b"", 80))

    def create(self) -> None:
        """Make it, or leave it as it is if it is larger."""
        self._ask(CREATE, struct.pack("<QQ", SIZE, DELTA), 0)

    def read(self, journal: int, start: int) -> tuple[int, list[UsnRecord]]:
        """Records from ``start`` on, at once: (where to go on, records). OSError with a code of GONE: some are
        missing."""
        question = struct.pack("<qIIQQQHH4x", start, 0xFFFFFFFF, 0, 0, 0, journal, 2, 4)
        try:
            return parse_records(self._ask(READ, question, ROOM))
        except OSError as error:
            if dll.winerror(error) != files.INVALID_PARAMETER:
                raise
        # Windows 7 knows READ_USN_JOURNAL_DATA_V0 only: no versions at its end. A wrong journal id fails again.
        return parse_records(self._ask(READ, question[:40], ROOM))

    def close(self) -> None:
        files.close(self._handle)

    def _ask(self, code: int, question: bytes, room: int) -> bytes:
        buffer = ctypes.create_string_buffer(room) if room else None
        got = ctypes.c_uint32()
        _control(self._handle, code, question or None, len(question), buffer, room, ctypes.byref(got), None)
        return buffer.raw[: got.value] if buffer is not None else b""
