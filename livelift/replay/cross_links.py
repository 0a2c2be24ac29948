"""A hard link of the source whose two names lie on two file systems here: the second name becomes a copy of its own.

It is as new as the first one at this position of the log. What is written to the object later comes for its first name;
the verification finds a second one that has fallen behind, and the source says the link again.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from livelift.platform.linux import inode_flags
from livelift.platform.linux.files import data_extents
from livelift.replay.directories import Directory
from livelift.replay.hands import Hands

_PIECE: Final = 8 << 20
_SLOW: Final = frozenset({errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS})
_NOFOLLOW: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def copy(hands: Hands, old: Directory, old_name: bytes, directory: Directory, name: bytes) -> None:
    """Whatever has the name is replaced. OSError as of its calls; a socket is made like any other node."""
    st = os.stat(old_name, dir_fd=old.fd, follow_symlinks=False)
    _away(directory, name)
    if stat.S_ISREG(st.st_mode):
        flags = _content(old, old_name, directory, name, st)
    else:
        flags = 0
        if stat.S_ISLNK(st.st_mode):
            os.symlink(os.readlink(old_name, dir_fd=old.fd), name, dir_fd=directory.fd)
        else:
            os.mknod(name, stat.S_IFMT(st.st_mode) | 0o600, st.st_rdev, dir_fd=directory.fd)
    hands.made += 1
    _attributes(old, old_name, directory, name, st)
    if flags & inode_flags.SETTABLE:
        fd = os.open(name, os.O_RDONLY | _NOFOLLOW, dir_fd=directory.fd)
        try:
            inode_flags.set_flags(fd, flags)
        finally:
            os.close(fd)


def _away(directory: Directory, name: bytes) -> None:
    """A copy of the last time may be immutable."""
    try:
        st = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISREG(st.st_mode):
        fd = os.open(name, os.O_RDONLY | _NOFOLLOW, dir_fd=directory.fd)
        try:
            inode_flags.lift_barriers(fd)
        finally:
            os.close(fd)
    os.unlink(name, dir_fd=directory.fd)


def _content(old: Directory, old_name: bytes, directory: Directory, name: bytes, st: os.stat_result) -> int:
    """With its holes; its inode flags."""
    source = os.open(old_name, os.O_RDONLY | _NOFOLLOW, dir_fd=old.fd)
    try:
        target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory.fd)
        try:
            os.ftruncate(target, st.st_size)
            for extent in data_extents(source, st.st_size):
                _range(source, target, extent.offset, extent.offset + extent.length)
        finally:
            os.close(target)
        return inode_flags.get_flags(source)
    finally:
        os.close(source)


def _range(source: int, target: int, at: int, end: int) -> None:
    direct = True
    while at < end:
        size = min(_PIECE, end - at)
        if direct:
            try:
                done = os.copy_file_range(source, target, size, at, at)
            except OSError as error:
                if error.errno not in _SLOW:
                    raise
                direct = False
                continue
        else:
            done = os.pwrite(target, os.pread(source, size, at), at)
        if not done:
            return
        at += done


def _attributes(old: Directory, old_name: bytes, directory: Directory, name: bytes, st: os.stat_result) -> None:
    """Owner first, for changing it drops set-user-ID and capabilities; times last."""
    source = b"/proc/self/fd/%d/%s" % (old.fd, old_name)
    target = b"/proc/self/fd/%d/%s" % (directory.fd, name)
    os.chown(name, st.st_uid, st.st_gid, dir_fd=directory.fd, follow_symlinks=False)
    if not stat.S_ISLNK(st.st_mode):
        os.chmod(target, stat.S_IMODE(st.st_mode))
    for attribute in os.listxattr(source, follow_symlinks=False):
        value = os.getxattr(source, attribute, follow_symlinks=False)
        os.setxattr(target, attribute, value, follow_symlinks=False)
    os.utime(name, ns=(st.st_atime_ns, st.st_mtime_ns), dir_fd=directory.fd, follow_symlinks=False)
