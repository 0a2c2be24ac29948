"""Everything that belongs to an object besides its content, read without following, blocking or opening a device.

Hot path: one call per object of the whole tree. Extended attributes of every namespace are kept as they are: POSIX ACLs
are ``system.posix_acl_access`` and ``_default``, capabilities ``security.capability``, overlayfs ``trusted.overlay.*``.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Final

from livelift.model.entry import Attributes
from livelift.platform.linux.inode_flags import get_flags, get_project

Report = Callable[[str, str], None]
"""Takes the (code, detail) of a part that could not be read; the caller knows the path and makes the Problem."""

Xattrs = tuple[tuple[bytes, bytes], ...]

_PATH: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC  # not O_NONBLOCK: then a lease would be EAGAIN
_UNSUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS})
_VANISHED: Final = errno.ENODATA  # removed between listxattr and getxattr: its own event tells the rest
_HAS_FLAGS: Final = frozenset({stat.S_IFREG, stat.S_IFDIR})

XATTR_UNREADABLE: Final = "xattr-unreadable"
FLAGS_UNREADABLE: Final = "flags-unreadable"


def attributes_of_fd(fd: int, st: os.stat_result, report: Report | None = None) -> Attributes:
    """Attributes of an open regular file or directory whose fstat is ``st``.

    With ``report`` a part that the kernel refuses (security.* under a policy) is told there and left out; without it
    the OSError comes through.
    """
    return Attributes(
        st.st_mode,
        st.st_uid,
        st.st_gid,
        st.st_size,
        st.st_mtime_ns,
        st.st_atime_ns,
        st.st_ctime_ns,
        st.st_nlink,
        0,
        get_flags(fd),
        get_project(fd),
        xattrs_of(fd, report),
    )


def attributes_at(dir_fd: int, name: bytes, report: Report | None = None) -> Attributes:
    """Attributes of whatever ``name`` is right now, symlinks included; all of one object, whatever is renamed.

    The name is pinned with O_PATH, which opens no device, wakes no FIFO and follows no symlink (open(2)); the rest goes
    through /proc/self/fd. The atime of a symlink moves: readlink(2) has no O_NOATIME. An empty ``name`` is ``dir_fd``
    itself. OSError: the name is gone (ENOENT) and the like.
    """
    if not name:
        return attributes_of_fd(dir_fd, os.fstat(dir_fd), report)
    pinned = os.open(name, _PATH, dir_fd=dir_fd)
    try:
        return attributes_of_pinned(pinned, report)
    finally:
        os.close(pinned)


def attributes_of_pinned(pinned: int, report: Report | None = None) -> Attributes:
    """The same for an O_PATH descriptor, such as open_by_handle_at gives."""
    st = os.fstat(pinned)
    kind = stat.S_IFMT(st.st_mode)
    proc = b"/proc/self/fd/%d" % pinned
    flags = project = 0
    target = b""
    if kind == stat.S_IFLNK:
        target = os.readlink(b"", dir_fd=pinned)
    elif kind in _HAS_FLAGS:
        try:
            fd = reopen(pinned)
        except OSError as error:
            if report is None:
                raise
            report(FLAGS_UNREADABLE, str(error))
        else:
            try:
                flags, project = get_flags(fd), get_project(fd)
            finally:
                os.close(fd)
    return Attributes(
        st.st_mode,
        st.st_uid,
        st.st_gid,
        st.st_size,
        st.st_mtime_ns,
        st.st_atime_ns,
        st.st_ctime_ns,
        st.st_nlink,
        st.st_rdev,
        flags,
        project,
        xattrs_of(proc, report),  # a magic link leads to the pinned object and no further, even if that is a symlink
        target,
    )


def reopen(pinned: int) -> int:
    """A readable descriptor for the regular file or directory behind an O_PATH descriptor; leaves its atime alone.

    Waits where somebody holds a lease on the file (an NFS delegation, a Samba oplock) until he gives it up: fcntl(2),
    at most /proc/sys/fs/lease-break-time, 45 s.
    """
    proc = b"/proc/self/fd/%d" % pinned
    try:
        return os.open(proc, _READ | os.O_NOATIME)
    except PermissionError:  # O_NOATIME is for the owner and CAP_FOWNER only
        return os.open(proc, _READ)


def xattrs_of(file: int | bytes, report: Report | None = None) -> Xattrs:
    """Sorted (name, value) pairs; empty where the file system has none. ``file``: descriptor, or path to follow."""
    try:
        names = os.listxattr(file)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return ()
        if report is None:
            raise
        report(XATTR_UNREADABLE, f"listxattr: {error.strerror}")
        return ()
    if not names:
        return ()
    found = []
    for name in names:
        raw = os.fsencode(name)
        try:
            found.append((raw, os.getxattr(file, raw)))
        except OSError as error:
            if error.errno == _VANISHED:
                continue
            if report is None:
                raise
            report(XATTR_UNREADABLE, f"{name!a}: {error.strerror}")
    found.sort()
    return tuple(found)
