"""Room that is kept for the way back: a new system that has filled its disk must not be in the way of the old one.

A file of 1 MiB on each file system that takes part, beside the swap's journal. Whoever begins the way back deletes it;
what has to be written then (state, journals, boot switch: some KiB, one at a time) finds its blocks and its inode.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import Final

from livelift.errors import PreflightError

PLACE: Final = ".livelift/swap"
NAME: Final = "reserve"
SIZE: Final = 1 << 20


def hold(tops: Iterable[str]) -> None:
    """``tops``: where the file systems are mounted. Nothing happens where it is held already. PreflightError: one of
    them has no room even for that."""
    for top in tops:
        path = f"{top}/{PLACE}/{NAME}"
        try:
            os.makedirs(f"{top}/{PLACE}", 0o700, exist_ok=True)
            if os.path.exists(path) and os.stat(path).st_size == SIZE:
                continue
            found = os.statvfs(top)
            if found.f_bfree * found.f_frsize < 2 * SIZE:  # what comes next has to be written too
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), top)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, SIZE)
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            text = f"{top} is full: there is no room for the {SIZE >> 20} MiB that is kept for the way back"
            raise PreflightError(text, remedy="make room there on the target") from error


def release(tops: Iterable[str]) -> None:
    """The room is free. Nothing happens where none is held."""
    for top in tops:
        try:
            directory = os.open(f"{top}/{PLACE}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            os.unlink(NAME, dir_fd=directory)
            os.fsync(directory)  # XFS and btrfs give blocks out again only when this is on disk
        except FileNotFoundError:
            continue
        finally:
            os.close(directory)
