"""Many small files read one after the other: what a reader does, in a thread of the agent or in its own process."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from livelift.log.pages import Page, make_page
from livelift.model.entry import RACY, Attributes, inode_of
from livelift.model.record import BaseFile

if sys.platform == "win32":
    from livelift.platform.windows import posix as os
    from livelift.walk.windows import attributes_of_fd
    from livelift.walk.windows_content import AHEAD, fetch, open_regular, read_open
else:
    import os

    from livelift.walk.attributes import attributes_of_fd
    from livelift.walk.content import AHEAD, fetch, open_regular, read_open

FRAME: Final = 1 << 20
"""Bytes of content, and of extended attributes, after which a frame is handed over."""

LARGE, AGAIN, FAILED = range(3)
_REPLACED: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE})


class Wanted(NamedTuple):
    """A name that a listing called the regular file ``oid``. ``directory``: its place among the unit's descriptors;
    ``parent``: the object id of that."""

    directory: int
    name: bytes
    oid: int
    parent: int


class Other(msgspec.Struct, array_like=True, gc=False):
    """A name that is in no page. ``place``: its position in the frame. ``status``: LARGE (attributes only), AGAIN (no
    longer what the listing said), FAILED (``error``: its errno and text)."""

    place: int
    status: int
    attributes: Attributes | None = None
    error: tuple[int, str] = (0, "")


class Frame(NamedTuple):
    """What came of the next ``names`` names: a page of those that were read whole, in order, and the others."""

    names: int
    page: Page | None
    others: list[Other]


def read_files(directories: Sequence[int], names: Sequence[Wanted]) -> Iterator[Frame]:
    """``directories``: open descriptors. Never raises for what is wrong with one of the files.

    Several are opened, and asked of the disk, before the first of them is read: a thread that waits for each of them in
    turn costs twice as much CPU, most of it for waking up.
    """
    at = 0
    frame = _Frame()
    while at < len(names):
        opened: list[tuple[Wanted, int, os.stat_result | OSError]] = []
        coming = 0
        try:
            while at < len(names) and (coming < AHEAD or not opened):
                wanted = names[at]
                at += 1
                try:
                    fd, st = open_regular(directories[wanted.directory], wanted.name)
                    opened.append((wanted, fd, st))
                    coming += fetch(fd, st)
                except OSError as error:
                    opened.append((wanted, -1, error))
            for wanted, fd, found in opened:
                frame.add(wanted, fd, found)
        finally:
            for _, fd, _ in opened:
                if fd >= 0:
                    os.close(fd)
        if frame.size >= FRAME:
            yield frame.done()
            frame = _Frame()
    yield frame.done()


class _Frame:
    """One in the making."""

    def __init__(self) -> None:
        self.size = 0
        self._names = 0
        self._files: list[BaseFile] = []
        self._payloads: list[bytes] = []
        self._others: list[Other] = []
        self._racy = time.time_ns() - RACY

    def add(self, wanted: Wanted, fd: int, found: os.stat_result | OSError) -> None:
        place = self._names
        self._names += 1
        try:
            if isinstance(found, OSError):
                raise found
            if found.st_ino != inode_of(wanted.oid):  # replaced since the listing
                self._others.append(Other(place, AGAIN))
                return
            small = read_open(fd, found)
            if small is None:
                self._others.append(Other(place, LARGE, attributes_of_fd(fd, found)))
                return
        except OSError as error:
            if error.errno in _REPLACED:
                self._others.append(Other(place, AGAIN))
            else:
                self._others.append(Other(place, FAILED, error=(error.errno or 0, error.strerror or str(error))))
            return
        a = small.attributes
        self._files.append(BaseFile(wanted.oid, wanted.parent, wanted.name, a, small.extents, small.allocated))
        if small.payload:
            self._payloads.append(small.payload)
            self.size += len(small.payload)
        if a.xattrs:
            self.size += sum(len(value) for _, value in a.xattrs)

    def done(self) -> Frame:
        page = make_page(self._files, self._payloads, self._racy) if self._files else None
        return Frame(self._names, page, self._others)
