"""What has to be known beside the segments, in a file that never grows: it can be written when the disk is full.

Two slots of one sector each, written in turn and checksummed: an interrupted write leaves the older slot.
"""

from __future__ import annotations

import struct
from typing import Final

from livelift.errors import CorruptError, LockedError
from livelift.log.crc import crc32c
from livelift.log.segment import REMEDY
from livelift.platform.system import lock_exclusive, os
from livelift.spool.files import sync_directory, write_all

STATE: Final = b"state"
LOCK: Final = b"lock"
_MAGIC = b"LLSTATE1"
_SLOT = struct.Struct("<8sQQQI")
_SECTOR = 512


class StateFile:
    """``acked``: an LSN that is durable on the target (the last one known may be higher). ``floor``: LSNs up to it were
    given up: their segments may be deleted unread and their numbers are never used again."""

    def __init__(self, directory: bytes) -> None:
        """Open or make it. CorruptError: neither slot is whole."""
        path = os.path.join(directory, STATE)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        self.acked = self.floor = self._turn = 0
        try:
            raw = os.pread(self._fd, 2 * _SECTOR, 0)
            if len(raw) < 2 * _SECTOR:  # new, or its making was interrupted: segments come after it
                write_all(self._fd, [self._pack() * 2], 0)
                os.fsync(self._fd)
                sync_directory(directory)
                return
            slots = [slot for slot in (_unpack(raw[:_SECTOR]), _unpack(raw[_SECTOR:])) if slot]
            if not slots:
                raise CorruptError(f"{os.fsdecode(path)}: both copies of the state are damaged", remedy=REMEDY)
            self._turn, self.acked, self.floor = max(slots)
        except BaseException:
            os.close(self._fd)
            raise

    def save(self, acked: int, floor: int) -> None:
        """Durable on return. OSError: the older state still holds."""
        self._turn += 1
        self.acked, self.floor = acked, floor
        write_all(self._fd, [self._pack()], self._turn % 2 * _SECTOR)
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)

    def _pack(self) -> bytes:
        raw = _SLOT.pack(_MAGIC, self._turn, self.acked, self.floor, 0)[:-4]
        return (raw + struct.pack("<I", crc32c(raw))).ljust(_SECTOR, b"\0")


def _unpack(raw: bytes) -> tuple[int, int, int] | None:
    magic, turn, acked, floor, crc = _SLOT.unpack_from(raw)
    if magic != _MAGIC or crc32c(raw[: _SLOT.size - 4]) != crc or raw.count(0, _SLOT.size) != _SECTOR - _SLOT.size:
        return None
    return turn, acked, floor


def take_lock(directory: bytes) -> int:
    """Descriptor of the lock file, held (flock(2)) until it is closed. LockedError: another process holds it."""
    fd = os.open(os.path.join(directory, LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        lock_exclusive(fd)
    except BlockingIOError as error:
        os.close(fd)
        raise LockedError(
            f"another process uses the log in {os.fsdecode(directory)}",
            remedy="stop the other source agent of this job",
        ) from error
    return fd
