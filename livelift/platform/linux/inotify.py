"""inotify_init1(2), inotify_add_watch(2), their constants, and the limits of this machine.

Errors are OSError with the errno of the call. ENOSPC from inotify_add_watch is the limit of watches of this user
(fs.inotify.max_user_watches), not a full disk; EMFILE from inotify_init1 is fs.inotify.max_user_instances.
"""

from __future__ import annotations

import ctypes
import os

from livelift.platform.linux.libc import INT, failed, function

MODIFY = 0x2
ATTRIB = 0x4
CLOSE_WRITE = 0x8
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
DELETE_SELF = 0x400
MOVE_SELF = 0x800
UNMOUNT = 0x2000
Q_OVERFLOW = 0x4000
IGNORED = 0x8000
ONLYDIR = 0x01000000
DONT_FOLLOW = 0x02000000
EXCL_UNLINK = 0x04000000
ISDIR = 0x40000000

MAX_USER_WATCHES = "/proc/sys/fs/inotify/max_user_watches"
MAX_QUEUED_EVENTS = "/proc/sys/fs/inotify/max_queued_events"

_inotify_init1 = function("inotify_init1", INT)
_inotify_add_watch = function("inotify_add_watch", INT, ctypes.c_char_p, ctypes.c_uint32)


def inotify_init() -> int:
    """A new instance: its file descriptor, non-blocking and close-on-exec."""
    descriptor = int(_inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    if descriptor < 0:
        raise failed()
    return descriptor


def inotify_add_watch(instance: int, path: bytes, mask: int) -> int:
    """Watch ``path``: the watch descriptor. An inode that is watched already answers with the one it has."""
    watch = int(_inotify_add_watch(instance, path, mask))
    if watch < 0:
        raise failed(path)
    return watch


def watch_limit() -> int:
    """How many watches this user may have, for the preflight; inotify(7)."""
    with open(MAX_USER_WATCHES, "rb") as file:
        return int(file.read())
