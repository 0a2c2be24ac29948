"""The journal of a settling: what stood where before the first rename. docs/reference/linux-edits.md has its format.

It is written once, whole, and only its direction is changed later (the file is then replaced). No step is written down:
where an entry is, its inodes tell.
"""

from __future__ import annotations

import os
from typing import Final

import msgspec

from livelift.edits.journal import sync_directory
from livelift.errors import CorruptError
from livelift.log.crc import crc32c

NAME: Final = "settle.journal"


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """``path``: of the object below the top of the file system. ``before``, ``after``: inode of the replica's object
    and of the upper layer's; 0: none (``after`` 0: the name goes). ``flags``: barriers of the replica's object.
    ``times``, ``new_times``: atime and mtime of the two where they are directories, which a rename may change."""

    path: bytes
    before: int
    after: int
    flags: int = 0
    times: tuple[int, int] | None = None
    new_times: tuple[int, int] | None = None


class Above(msgspec.Struct, frozen=True, array_like=True):
    """A directory of the replica in which names change: its own atime, mtime and barriers."""

    path: bytes
    atime: int
    mtime: int
    flags: int = 0


class Settling(msgspec.Struct, frozen=True):
    """``forward``: into the replica, or back out of it. ``done``: all entries are there and durable."""

    entries: tuple[Entry, ...]
    above: tuple[Above, ...]
    forward: bool = True
    done: bool = False


def write(directory: int, settling: Settling) -> None:
    """Durable on return, whole or not at all."""
    body = msgspec.json.encode(settling)
    fd = os.open(f"{NAME}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        line = b"%08x %s\n" % (crc32c(body), body)
        while line:
            line = line[os.write(fd, line) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(f"{NAME}.new", NAME, src_dir_fd=directory, dst_dir_fd=directory)
    sync_directory(directory)


def read(directory: int) -> Settling | None:
    """None: there is none. CorruptError: it is damaged."""
    try:
        fd = os.open(NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        crc, _, body = file.read().rstrip(b"\n").partition(b" ")
    try:
        if int(crc, 16) != crc32c(body):
            raise ValueError("checksum")
        return msgspec.json.decode(body, type=Settling)
    except (ValueError, msgspec.DecodeError) as error:
        raise CorruptError(f"{NAME}: {error}", remedy="look at the replica and the layer by hand") from error
