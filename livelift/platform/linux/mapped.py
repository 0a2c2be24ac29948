"""Files that some process can change through memory, without any system call that could be captured: proc(5)."""

from __future__ import annotations

import os
import re
import stat
from typing import Final

_LINE: Final = re.compile(rb"^([0-9a-f]+-[0-9a-f]+) .w.s [0-9a-f]+ ([0-9a-f]+):([0-9a-f]+) ([1-9][0-9]*) +(/.*)$", re.M)
_NO_FILE: Final = (b"/dev/", b"/memfd:", b"/SYSV", b"/[aio]")


def writable_shared_mappings(proc: bytes = b"/proc") -> set[tuple[int, int]]:
    """(st_dev, inode) of every regular file that any process has mapped shared and writable at this moment.

    The device in a maps line is the superblock's, which is not st_dev on btrfs, so the file is asked itself through
    ``map_files`` (root). Processes that vanish, and those that we may not look into, are passed over.
    """
    found: set[tuple[int, int]] = set()
    seen: set[tuple[bytes, bytes, bytes]] = set()
    for pid in os.listdir(proc):
        if not pid.isdigit():
            continue
        try:
            fd = os.open(b"%b/%b/maps" % (proc, pid), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # gone, or not ours to see
            continue
        try:
            text = _read(fd)
        except OSError:  # ESRCH: it ended while we read
            continue
        finally:
            os.close(fd)
        if b"s " not in text:
            continue
        for span, major, minor, inode, path in _LINE.findall(text):
            key = (major, minor, inode)
            if key in seen or path.startswith(_NO_FILE):
                continue
            try:
                status = os.stat(b"%b/%b/map_files/%b" % (proc, pid, span))
            except OSError:  # unmapped meanwhile, or no permission: what the line says is the next best
                found.add((os.makedev(int(major, 16), int(minor, 16)), int(inode)))
                continue
            seen.add(key)
            if stat.S_ISREG(status.st_mode):
                found.add((status.st_dev, status.st_ino))
    return found


def _read(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, 1 << 18):  # the kernel fills at most a page or so per call on older kernels
        parts.append(part)
    return b"".join(parts)
