"""The journal of edits: what was done, and how to take it back. docs/reference/linux-edits.md describes its format.

A record is durable before the change that it tells of begins, so whatever a crash leaves can be taken back.
"""

from __future__ import annotations

import fcntl
import os
from typing import Final

import msgspec

from livelift.errors import CorruptError, LockedError
from livelift.log.crc import crc32c

NAME: Final = "edits.journal"
REMEDY = "the staged tree cannot be taken back step by step: stage it again"


class Begun(msgspec.Struct, frozen=True, tag_field="record", tag="begun"):
    """Before edit ``number`` of the plan changes ``path``.

    ``before``: absent, kept (moved into the keep as ``kept``), or renamed (``kept`` is the new name, in the tree).
    ``parents``: directories that are made for it, outermost first. ``times``: atime, mtime in ns of its directory.
    ``short``: the short name of an object on NTFS, which ntfs-3g forgets when the object is renamed.
    """

    number: int
    id: str
    path: str
    before: str
    kept: str = ""
    parents: tuple[str, ...] = ()
    times: tuple[int, int] = (0, 0)
    short: str = ""


class Done(msgspec.Struct, frozen=True, tag_field="record", tag="done"):
    """Edit ``number`` is complete. ``digest``: of its change, as the plan had it."""

    number: int
    digest: str


class Undone(msgspec.Struct, frozen=True, tag_field="record", tag="undone"):
    """The newest Begun that was not undone yet has been taken back."""

    path: str


class TakingBack(msgspec.Struct, frozen=True, tag_field="record", tag="taking-back"):
    """From here on everything is taken back; until that has come to its end nothing else is done."""


Record = Begun | Done | Undone | TakingBack


class Journal:
    """Lines of "CRC32C in hex, space, JSON". One process at a time (flock)."""

    def __init__(self, directory: str) -> None:
        """Open or make it. CorruptError: a damaged line that is not the last one, which a crash may have cut."""
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self.path = os.path.join(directory, NAME)
        fresh = not os.path.exists(self.path)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if fresh:
                sync_directory(directory)
            self.records = self._read()
        except BlockingIOError as error:
            os.close(self._fd)
            raise LockedError(f"another process edits with {self.path}", remedy="wait for it") from error
        except BaseException:
            os.close(self._fd)
            raise

    def close(self) -> None:
        os.close(self._fd)

    def _read(self) -> list[Record]:
        raw = b""
        while piece := os.pread(self._fd, 1 << 20, len(raw)):
            raw += piece
        found: list[Record] = []
        whole = 0
        lines = raw.split(b"\n")
        for number, line in enumerate(lines[:-1]):
            record = _parse(line)
            if record is None:
                if number < len(lines) - 2:
                    raise CorruptError(f"{self.path}: line {number + 1} is damaged", remedy=REMEDY)
                break
            found.append(record)
            whole += len(line) + 1
        if whole < len(raw):
            os.ftruncate(self._fd, whole)
        self._end = whole
        return found

    def append(self, record: Record) -> None:
        """Durable on return. OSError: nothing was begun."""
        body = msgspec.json.encode(record)
        line = b"%08x %s\n" % (crc32c(body), body)
        done = 0
        while done < len(line):
            done += os.pwrite(self._fd, line[done:], self._end + done)
        os.fdatasync(self._fd)
        self._end += len(line)
        self.records.append(record)

    def clear(self) -> None:
        """Everything is taken back: begin anew."""
        os.ftruncate(self._fd, 0)
        os.fsync(self._fd)
        self._end = 0
        self.records = []

    def open_steps(self) -> list[Begun]:
        """What is not taken back, oldest first."""
        stack: list[Begun] = []
        for record in self.records:
            if isinstance(record, Begun):
                stack.append(record)
            elif isinstance(record, Undone):
                stack.pop()
        return stack

    @property
    def taking_back(self) -> bool:
        return any(isinstance(record, TakingBack) for record in self.records)

    def finished(self) -> dict[int, str]:
        """Number to digest of the edits that are complete."""
        return {record.number: record.digest for record in self.records if isinstance(record, Done)}


def _parse(line: bytes) -> Record | None:
    crc, _, body = line.partition(b" ")
    try:
        if int(crc, 16) != crc32c(body):
            return None
        found: Record = msgspec.json.decode(body, type=Record)
        return found
    except (ValueError, msgspec.DecodeError):
        return None


def sync_directory(path: str | int) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY) if isinstance(path, str) else path
    try:
        os.fsync(fd)
    finally:
        if isinstance(path, str):
            os.close(fd)
