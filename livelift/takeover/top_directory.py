"""The top directory of a file system cannot be renamed: what a swap exchanges is its owner, mode, xattrs and times.

Without it a volume such as /var/lib/postgresql would belong to whom the target's installer had made it for.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final, NamedTuple

NEVER_REMOVED: Final = frozenset(("security.selinux",))
"""A kernel with a loaded policy gives every object a label and refuses its removal."""


class Top(NamedTuple):
    """``times``: (atime, mtime) in ns. ``xattrs``: (name, value), by name; ACLs are among them."""

    uid: int
    gid: int
    mode: int
    times: tuple[int, int]
    xattrs: tuple[tuple[str, bytes], ...] = ()


def look(fd: int) -> Top:
    st = os.fstat(fd)
    xattrs = tuple((name, os.getxattr(fd, name)) for name in sorted(os.listxattr(fd)))
    return Top(st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode), (st.st_atime_ns, st.st_mtime_ns), xattrs)


def make_equal(fd: int, top: Top) -> None:
    """May be interrupted and repeated. The ACL after the mode, which its mask is part of; the times last."""
    now = look(fd)
    if (now.uid, now.gid) != (top.uid, top.gid):
        os.fchown(fd, top.uid, top.gid)
    os.fchmod(fd, top.mode)
    for name, _ in now.xattrs:
        if name not in dict(top.xattrs) and name not in NEVER_REMOVED:
            _remove(fd, name)
    for name, value in top.xattrs:
        if (name, value) not in now.xattrs:
            os.setxattr(fd, name, value)
    if look(fd).mode != top.mode:  # the removal of an ACL leaves its mask as the group's rights
        os.fchmod(fd, top.mode)
    os.utime(fd, ns=top.times)


def _remove(fd: int, name: str) -> None:
    try:
        os.removexattr(fd, name)
    except OSError as error:
        if error.errno != errno.ENODATA:  # XFS lists an ACL by two names (trusted.SGI_ACL_FILE); both go at once
            raise
