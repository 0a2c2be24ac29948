"""Files that are being written to often: a bounded cache of open descriptors by object id, one per worker."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from typing import Final

from livelift.platform.linux.files import aligned_buffer

OPEN_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
DIRECT_MIN: Final = 1 << 20
"""Below this O_DIRECT costs more (a disk round trip each) than the copy through the page cache that it saves."""
BLOCK: Final = 4096
"""Alignment that O_DIRECT asks for on every disk we know (logical block sizes are 512 or 4096)."""


class OpenFile:
    """A descriptor and whether it is in O_DIRECT mode. One descriptor, switched: so the kernel keeps page cache and
    disk coherent for us (each switch happens between two writes of one thread)."""

    __slots__ = ("_bounce", "direct", "direct_works", "fd")

    def __init__(self, fd: int, bounce: mmap.mmap) -> None:
        self.fd = fd
        self._bounce = bounce
        self.direct = False
        self.direct_works = True

    def write(self, data: memoryview, offset: int) -> None:
        """All of ``data`` at ``offset``; through O_DIRECT where size and alignment allow."""
        if len(data) >= DIRECT_MIN and self.direct_works and not offset % BLOCK and self._switch(True):
            whole = len(data) - len(data) % BLOCK
            done = self._write_direct(data[:whole], offset)
            if done == len(data):
                return
            data, offset = data[done:], offset + done
        self._switch(False)
        write_all(self.fd, data, offset)

    def _write_direct(self, data: memoryview, offset: int) -> int:
        """Bytes written; fewer than all where the device wants more alignment than we have."""
        try:
            return os.pwrite(self.fd, data, offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        # This memory is not aligned. One copy costs 0.1 CPU-s a GiB; the page cache, on first touch, 2.4 (measured).
        done = 0
        while done < len(data):
            size = min(DIRECT_MIN, len(data) - done)
            self._bounce[:size] = data[done : done + size]
            try:
                with memoryview(self._bounce) as whole, whole[:size] as part:
                    wrote = os.pwrite(self.fd, part, offset + done)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self.direct_works = False  # a device with blocks of more than 4 KiB
                break
            done += wrote
            if wrote < size:
                break
        return done

    def buffered(self) -> int:
        """The descriptor, for calls that know nothing of alignment."""
        self._switch(False)
        return self.fd

    def _switch(self, direct: bool) -> bool:
        if self.direct != direct:
            flags = fcntl.fcntl(self.fd, fcntl.F_GETFL)
            try:
                fcntl.fcntl(self.fd, fcntl.F_SETFL, flags | os.O_DIRECT if direct else flags & ~os.O_DIRECT)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self.direct_works = False  # tmpfs, or ext4 with data=journal
                return False
            self.direct = direct
        return True


def write_all(fd: int, data: memoryview, offset: int) -> None:
    """pwrite(2) until everything is written."""
    done = os.pwrite(fd, data, offset)
    while done < len(data):
        data, offset = data[done:], offset + done
        done = os.pwrite(fd, data, offset)


class OpenFiles:
    """At most ``limit`` open files; the one not used for the longest time is closed first."""

    def __init__(self, limit: int = 128) -> None:
        self._limit = limit
        self._bounce = aligned_buffer(DIRECT_MIN)  # no memory until it is first used
        self._files: dict[int, OpenFile] = {}  # in order of use: dicts keep insertion order

    def __len__(self) -> int:
        return len(self._files)

    def get(self, oid: int) -> OpenFile | None:
        file = self._files.pop(oid, None)
        if file is not None:
            self._files[oid] = file
        return file

    def put(self, oid: int, fd: int) -> OpenFile:
        self.drop(oid)
        if len(self._files) >= self._limit:
            os.close(self._files.pop(next(iter(self._files))).fd)
        file = self._files[oid] = OpenFile(fd, self._bounce)
        return file

    def drop(self, oid: int) -> None:
        file = self._files.pop(oid, None)
        if file is not None:
            os.close(file.fd)

    def close(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1].fd)
        self._bounce.close()
