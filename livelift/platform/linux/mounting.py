"""Changing what is mounted how, and getting a file system's content into its place on disk: mount(2), ioctl_fs(2)."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from fcntl import ioctl
from typing import Final

from livelift.platform.linux import files
from livelift.platform.linux.namespaces import mount

MS_RDONLY: Final = 1  # linux/mount.h
MS_REMOUNT: Final = 32
_OPTIONS: Final = {
    b"nosuid": 2,
    b"nodev": 4,
    b"noexec": 8,
    b"noatime": 1024,
    b"nodiratime": 2048,
    b"relatime": 1 << 21,
}
_FIFREEZE: Final = 0xC0045877  # linux/fs.h
_FITHAW: Final = 0xC0045878


def remount(path: bytes, read_only: bool, options: Iterable[bytes] = ()) -> None:
    """``options``: of the mount as mountinfo tells them, which a remount would otherwise forget."""
    flags = MS_REMOUNT | (MS_RDONLY if read_only else 0)
    for option in options:
        flags |= _OPTIONS.get(option, 0)
    mount(b"none", path, b"", flags)


def settle(fd: int) -> None:
    """Everything written to the file system of ``fd`` is in its place, not only in its journal.

    A boot loader reads without the journal, and a freeze is what writes it home (ext4, XFS; btrfs commits). Only where
    nothing else writes: it would stand still. A file system that cannot be frozen is synced.
    """
    files.syncfs(fd)
    try:
        ioctl(fd, _FIFREEZE, 0)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EBUSY):  # no such thing, or it is frozen already
            return
        raise
    ioctl(fd, _FITHAW, 0)
