"""The names in one directory, in bounded memory however many there are."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

AT_ONCE: Final = 1024


class Listed(NamedTuple):
    """One name. ``kind``: S_IFREG, S_IFDIR, S_IFLNK, or 0 = something else (look at it with `attributes_at`).

    ``inode`` of a mount point is that of the directory below the mount: what is mounted there only fstat tells.
    """

    name: bytes
    inode: int
    kind: int


def list_directory(fd: int) -> Iterator[list[Listed]]:
    """Lists of up to 1024 names, in the order of the disk, without "." and "..". Costs no call per name.

    What is created or removed while it runs may or may not be in it (readdir(3)): the capture tells.
    Does not move the descriptor's position. OSError: ENOTDIR, EACCES, EIO.
    """
    # By its path in /proc, not by the descriptor: names then come as bytes, which saves encoding each of them.
    with os.scandir(b"/proc/self/fd/%d" % fd) as entries:
        while names := [
            Listed(
                entry.name,
                entry.inode(),
                stat.S_IFREG
                if entry.is_file(follow_symlinks=False)
                else stat.S_IFDIR
                if entry.is_dir(follow_symlinks=False)
                else stat.S_IFLNK
                if entry.is_symlink()
                else 0,
            )
            for entry in islice(entries, AT_ONCE)
        ]:
            yield names
