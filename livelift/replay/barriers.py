"""Immutable and append-only objects (chattr +i, +a), and for an agent without root read-only ones: lifted for one
record.

The source's owner set them and changed the object all the same, by clearing and setting them again; the log does not
say so. EPERM is rare, so nothing is looked at before it comes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from typing import Final

from livelift.model.record import Kind
from livelift.platform.linux.inode_flags import BARRIERS, get_flags, set_flags
from livelift.replay.directories import Directory
from livelift.replay.hands import Hands

SETS_FLAGS: Final = frozenset({Kind.BASE_FILE, Kind.FILE, Kind.BASE_BEGIN, Kind.BASE_END, Kind.ATTRIBUTES, Kind.CREATE})
"""Records that bring the object's flags and mode themselves (BASE_BEGIN: its BASE_END does)."""
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def attempt(
    hands: Hands,
    kind: Kind,
    directories: Sequence[Directory],
    names: Sequence[tuple[Directory, bytes]],
    action: Callable[[], None],
) -> None:
    """Run ``action``; if it is not permitted, once more without the barriers of these directories and named objects."""
    try:
        action()
    except PermissionError as error:  # EPERM, EACCES
        with hands.unlock:
            undo = _lift(hands, kind, directories, names)
            try:
                if not undo and not _may_have_been_lifted(error):
                    raise
                action()
            finally:
                while undo:
                    undo.pop()()


def _may_have_been_lifted(error: OSError) -> bool:
    """EPERM can come from a barrier that another worker has just set again: worth one more try under the lock."""
    return error.errno == errno.EPERM


def _lift(
    hands: Hands, kind: Kind, directories: Sequence[Directory], names: Sequence[tuple[Directory, bytes]]
) -> list[Callable[[], None]]:
    undo: list[Callable[[], None]] = []
    for directory in directories:
        _lift_one(hands, directory.fd, True, undo, close=False)
    for directory, name in names:
        try:
            mode = os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode
        except OSError:
            continue  # not there (yet), or not to be reached: then the action says so
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            continue
        again = kind not in SETS_FLAGS
        if not hands.root and mode & 0o600 != 0o600:
            _open_up(directory, name, mode, again, undo)
        try:
            fd = os.open(name, _OPEN, dir_fd=directory.fd)
        except OSError:
            continue
        _lift_one(hands, fd, again, undo, close=True)
    return undo


def _lift_one(hands: Hands, fd: int, again: bool, undo: list[Callable[[], None]], *, close: bool) -> None:
    """Clear the barriers of an open object and note how to set them ``again``. ``close``: the descriptor is ours."""
    keep = False
    flags = get_flags(fd)
    if flags & BARRIERS:
        try:
            set_flags(fd, flags & ~BARRIERS)
        except PermissionError:
            pass  # no CAP_LINUX_IMMUTABLE: the action fails again and says so
        else:
            keep = close
            undo.append(lambda: _set_back(fd, flags if again else flags & ~BARRIERS, close))
    if not hands.root and not close:
        mode = os.fstat(fd).st_mode
        if mode & 0o300 != 0o300:
            try:
                os.chmod(fd, stat.S_IMODE(mode) | 0o700)
            except OSError:
                pass  # not ours
            else:
                undo.append(lambda: os.chmod(fd, stat.S_IMODE(mode)))
    if close and not keep:
        os.close(fd)


def _set_back(fd: int, flags: int, close: bool) -> None:
    try:
        if flags & BARRIERS:
            set_flags(fd, flags)
    finally:
        if close:
            os.close(fd)


def _open_up(directory: Directory, name: bytes, mode: int, again: bool, undo: list[Callable[[], None]]) -> None:
    """Give the owner of a file access to it; through O_PATH, for the file may have another name when it ends."""
    try:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory.fd)
    except OSError:
        return
    path = b"/proc/self/fd/%d" % fd
    try:
        os.chmod(path, stat.S_IMODE(mode) | 0o600)
    except OSError:
        os.close(fd)
        return  # not ours

    def back() -> None:
        try:
            if again:
                os.chmod(path, stat.S_IMODE(mode))
        finally:
            os.close(fd)

    undo.append(back)
