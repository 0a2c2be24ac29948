"""Setting the attributes of an object, in the order in which they do not undo each other.

content -> owner -> mode -> xattrs -> project -> times -> flags. chown(2) drops set-id bits and capabilities, a write
drops capabilities, chmod changes the ACL's mask, every step but the last touches ctime only; an immutable object
takes nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from livelift.model.entry import Attributes
from livelift.model.record import Changed
from livelift.platform.linux.inode_flags import (
    BARRIERS,
    PROJINHERIT,
    SETTABLE,
    get_flags,
    get_project,
    set_flags,
    set_project,
)
from livelift.replay.directories import Directory
from livelift.replay.hands import Hands
from livelift.replay.trouble import FULL, REFUSED

KEPT_XATTRS: Final = frozenset({"security.selinux"})
"""Never removed: a kernel with SELinux gives every object a label and refuses its removal."""
NTFS_3G: Final = b"system.ntfs_"
"""What ntfs-3g(8) keeps in the volume's own structures; `livelift.walk.ntfs_names` says what they are."""
AT_CREATION: Final = SETTABLE & ~BARRIERS & ~PROJINHERIT
"""Flags to set while the file is empty: NOCOW and compression count only then (btrfs)."""


def fresh(hands: Hands, directory: Directory, name: bytes, fd: int, a: Attributes) -> None:
    """A regular file that we have just made and filled: the few calls that it needs when it is as simple as most
    are."""
    if a.xattrs or a.project or a.flags & SETTABLE or not directory.plain:
        complete(hands, directory, name, fd, a)
        return
    if a.uid != hands.uid or a.gid != hands.gid:
        _chown(hands, directory, name, fd, a)
    if a.mode & (0o7000 | hands.umask):  # made with mode & 0o777 & ~umask
        os.chmod(fd, a.mode & 0o7777)
    os.utime(fd, ns=(a.atime, a.mtime))


def complete(hands: Hands, directory: Directory, name: bytes, fd: int, a: Attributes) -> None:
    """Make every attribute of the object equal to ``a``, comparing first. ``fd`` -1: an object that cannot be opened
    (symlink, device, FIFO, socket), reached by its name.

    What this file system or our privileges do not allow becomes a problem; trouble of the disk is an OSError.
    """
    where: int | bytes = fd if fd >= 0 else b"/proc/self/fd/%d/%b" % (directory.fd, name)
    status = os.stat(where, follow_symlinks=fd >= 0)
    flags = get_flags(fd) if fd >= 0 else 0
    if flags & BARRIERS:
        try:
            set_flags(fd, flags & ~BARRIERS)
        except OSError as error:
            _refused(hands, directory, name, "flags", error)
            return  # nothing can be set on it
    mode = stat.S_IMODE(status.st_mode)
    if (status.st_uid, status.st_gid) != (a.uid, a.gid):
        _chown(hands, directory, name, where, a)
        mode = -1
    if mode != a.mode & 0o7777 and not stat.S_ISLNK(status.st_mode):
        try:
            os.chmod(where, a.mode & 0o7777)
        except OSError as error:
            _refused(hands, directory, name, "mode", error)
    _xattrs(hands, directory, name, where, a)
    if fd >= 0:
        _project(hands, directory, name, fd, a)
    try:
        os.utime(where, ns=(a.atime, a.mtime), follow_symlinks=fd >= 0)
    except OSError as error:
        _refused(hands, directory, name, "times", error)
    if fd >= 0 and (flags & ~BARRIERS | a.flags) & SETTABLE:
        _flags(hands, directory, name, fd, a.flags)


def change(hands: Hands, directory: Directory, name: bytes, where: int | bytes, body: Changed) -> None:
    """Some attributes, as a call has set them. PermissionError goes to the caller: it may be a barrier."""
    follow = isinstance(where, int)
    status = os.stat(where, follow_symlinks=follow)
    mode = body.mode
    owner = (status.st_uid if body.uid is None else body.uid, status.st_gid if body.gid is None else body.gid)
    try:
        if owner != (status.st_uid, status.st_gid):
            os.chown(where, *owner, follow_symlinks=follow)
            mode = status.st_mode if mode is None else mode  # set-id bits go with the owner
        if mode is not None and not stat.S_ISLNK(status.st_mode):
            os.chmod(where, mode & 0o7777)
        if body.atime is not None or body.mtime is not None:
            times = (
                status.st_atime_ns if body.atime is None else body.atime,
                status.st_mtime_ns if body.mtime is None else body.mtime,
            )
            os.utime(where, ns=times, follow_symlinks=follow)
    except PermissionError:
        raise
    except OSError as error:
        _refused(hands, directory, name, "attributes", error)


def early_flags(hands: Hands, directory: Directory, name: bytes, fd: int, flags: int) -> None:
    """Flags that count only while the file is empty."""
    if flags & AT_CREATION:
        _flags(hands, directory, name, fd, flags & AT_CREATION)


def set_xattr(hands: Hands, directory: Directory, name: bytes, where: int | bytes, key: bytes, value: bytes) -> None:
    """One xattr, unless it has that value already. PermissionError goes to the caller: it may be a barrier."""
    follow = isinstance(where, int)
    try:
        if os.getxattr(where, key, follow_symlinks=follow) == value:
            return
    except OSError as error:
        # ntfs-3g says EIO, not ERANGE, where a value is longer than the first buffer that Python offers (128 bytes).
        if error.errno not in REFUSED and error.errno != errno.ENODATA and not key.startswith(NTFS_3G):
            raise
    try:
        os.setxattr(where, key, value, follow_symlinks=follow)
    except PermissionError:
        raise
    except OSError as error:
        # ext4 also says ENOSPC when the value does not fit into the inode's one block.
        if error.errno in FULL and _has_room(directory.fd):
            error = OSError(errno.E2BIG, "does not fit into the xattr space of this file system")
        elif error.errno == errno.EEXIST and key.startswith(NTFS_3G):
            error = OSError(errno.EOPNOTSUPP, "another file of the directory has this short name")
        _refused(hands, directory, name, f"xattr {_namespace(key)}", error)


def remove_xattr(hands: Hands, directory: Directory, name: bytes, where: int | bytes, key: bytes) -> None:
    """One xattr goes, if it is there. PermissionError as for `set_xattr`."""
    try:
        os.removexattr(where, key, follow_symlinks=isinstance(where, int))
    except PermissionError:
        raise
    except OSError as error:
        if error.errno != errno.ENODATA:
            _refused(hands, directory, name, f"xattr {_namespace(key)}", error)


def _xattrs(hands: Hands, directory: Directory, name: bytes, where: int | bytes, a: Attributes) -> None:
    follow = isinstance(where, int)
    try:
        now = os.listxattr(where, follow_symlinks=follow)
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        now = []
    if not now and not a.xattrs:
        return
    wanted = {os.fsdecode(key) for key, _ in a.xattrs}
    for extra in now:
        if extra not in wanted and extra not in KEPT_XATTRS:
            key = os.fsencode(extra)
            try:
                remove_xattr(hands, directory, name, where, key)
            except PermissionError as error:
                _refused(hands, directory, name, f"xattr {_namespace(key)}", error)
    for key, value in a.xattrs:
        try:
            set_xattr(hands, directory, name, where, key, value)
        except PermissionError as error:
            _refused(hands, directory, name, f"xattr {_namespace(key)}", error)


def _chown(hands: Hands, directory: Directory, name: bytes, where: int | bytes, a: Attributes) -> None:
    try:
        os.chown(where, a.uid, a.gid, follow_symlinks=isinstance(where, int))
    except OSError as error:
        _refused(hands, directory, name, "owner", error)


def _project(hands: Hands, directory: Directory, name: bytes, fd: int, a: Attributes) -> None:
    try:
        if a.project != get_project(fd):
            set_project(fd, a.project)
    except OSError as error:
        _refused(hands, directory, name, "project", error)


def _flags(hands: Hands, directory: Directory, name: bytes, fd: int, flags: int) -> None:
    try:
        set_flags(fd, flags)
        return
    except OSError as error:
        _refused(hands, directory, name, "flags", error)
    # One flag that this file system lacks spoils the whole call: set the others one by one, the barriers last.
    done = get_flags(fd) & SETTABLE & flags
    for bit in sorted((1 << n for n in range(32) if flags & SETTABLE & (1 << n)), key=lambda bit: bool(bit & BARRIERS)):
        try:
            set_flags(fd, done | bit)
            done |= bit
        except OSError as error:
            if error.errno not in REFUSED:
                raise


def _refused(hands: Hands, directory: Directory, name: bytes, what: str, error: OSError) -> None:
    if error.errno not in REFUSED:
        raise error
    remedy = "run the target agent as root" if not hands.root and error.errno in (errno.EPERM, errno.EACCES) else ""
    hands.note(f"lost-{what}", error, directory, name, remedy)


def _namespace(key: bytes) -> str:
    return os.fsdecode(key.partition(b".")[0]) + ".*"


def _has_room(fd: int) -> bool:
    room = os.statvfs(fd)
    return room.f_bavail > 16 and (room.f_files == 0 or room.f_ffree > 0)
