"""Deletes a tree of a whole system: also what is immutable in it, never what is mounted in it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from livelift.errors import StateError
from livelift.platform.linux import inode_flags

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def delete_tree(path: str) -> None:
    """Nothing happens if there is none. StateError: something is mounted below. May be interrupted and repeated."""
    above, name = os.path.split(path.rstrip("/"))
    try:
        holder = os.open(above, _DIRECTORY)
    except FileNotFoundError:
        return
    try:
        st = os.stat(name, dir_fd=holder, follow_symlinks=False)
        _delete(holder, name, st.st_dev, path)
    except FileNotFoundError:
        return
    finally:
        os.close(holder)


def _delete(above: int, name: str, device: int, shown: str) -> None:
    st = os.stat(name, dir_fd=above, follow_symlinks=False)
    if not stat.S_ISDIR(st.st_mode):
        _permitted(lambda: os.unlink(name, dir_fd=above), above, name, st.st_mode)
        return
    if st.st_dev != device:
        raise StateError(f"something is mounted at {shown}", remedy="unmount it, then try again")
    here = os.open(name, _DIRECTORY, dir_fd=above)
    try:
        inode_flags.lift_barriers(here)
        for below in os.listdir(here):
            _delete(here, below, device, f"{shown}/{below}")
    finally:
        os.close(here)
    os.rmdir(name, dir_fd=above)


def _permitted(action: Callable[[], None], above: int, name: str, mode: int) -> None:
    try:
        action()
    except PermissionError as error:
        if error.errno != errno.EPERM or not stat.S_ISREG(mode):
            raise
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=above)
        try:
            inode_flags.lift_barriers(fd)
        finally:
            os.close(fd)
        action()
