"""Many small files read one after the other: what a reader does, in a thread of the agent or in its own process."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from livelift.model.entry import Attributes

if sys.platform == "win32":
    from livelift.platform.windows import posix as os
    from livelift.walk.windows import attributes_of_fd
    from livelift.walk.windows_content import AHEAD, fetch, open_regular, read_open
else:
    import os

    from livelift.walk.attributes import attributes_of_fd
    from livelift.walk.content import AHEAD, fetch, open_regular, read_open

FRAME: Final = 1 << 20
"""Bytes of content after which a frame is handed over."""

WHOLE, LARGE, AGAIN, FAILED = range(4)
_REPLACED: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE})


class Read(msgspec.Struct, array_like=True, gc=False):
    """What came of one name. ``status``: WHOLE (content is there), LARGE (attributes only), AGAIN (no longer what the
    listing said), FAILED (``error``: its errno and text). ``length``: bytes in the frame; ``inode``: whose they are."""

    status: int
    attributes: Attributes | None = None
    extents: tuple[tuple[int, int], ...] = ()
    allocated: tuple[tuple[int, int], ...] = ()
    length: int = 0
    inode: int = 0
    error: tuple[int, str] = (0, "")


class Frame(NamedTuple):
    """Consecutive files of a unit. ``payloads``: one for each that has content, in order."""

    files: list[Read]
    payloads: list[bytes | memoryview]


def read_files(names: Sequence[tuple[int, bytes]]) -> Iterator[Frame]:
    """Read each (directory descriptor, name) that a listing called a regular file. Never raises for what is wrong with
    one of them.

    Several are opened, and asked of the disk, before the first of them is read: a thread that waits for each of them in
    turn costs twice as much CPU, most of it for waking up.
    """
    files: list[Read] = []
    payloads: list[bytes | memoryview] = []
    size = at = 0
    while at < len(names):
        opened: list[tuple[int, os.stat_result] | OSError] = []
        coming = 0
        try:
            while at < len(names) and (coming < AHEAD or not opened):
                try:
                    fd, st = open_regular(*names[at])
                    opened.append((fd, st))
                    coming += fetch(fd, st)
                except OSError as error:
                    opened.append(error)
                at += 1
            for each in opened:
                file, payload = _failed(each) if isinstance(each, OSError) else _read(*each)
                files.append(file)
                if payload:
                    payloads.append(payload)
                    size += len(payload)
        finally:
            for each in opened:
                if not isinstance(each, OSError):
                    os.close(each[0])
        if size >= FRAME:
            yield Frame(files, payloads)
            files, payloads, size = [], [], 0
    yield Frame(files, payloads)


def _read(fd: int, st: os.stat_result) -> tuple[Read, bytes]:
    try:
        small = read_open(fd, st)
        if small is None:
            return Read(LARGE, attributes_of_fd(fd, st), inode=st.st_ino), b""
    except OSError as error:
        return _failed(error)
    payload = small.payload
    return Read(WHOLE, small.attributes, small.extents, small.allocated, len(payload), small.inode), payload


def _failed(error: OSError) -> tuple[Read, bytes]:
    if error.errno in _REPLACED:
        return Read(AGAIN), b""
    return Read(FAILED, error=(error.errno or 0, error.strerror or str(error))), b""
