"""fanotify_init(2) and fanotify_mark(2): the two calls, and the constants of `linux/fanotify.h` that we use.

Errors are OSError with the errno of the call. What they mean in practice: EPERM no CAP_SYS_ADMIN; EINVAL a flag that
this kernel does not know; ENODEV a file system without an fsid; EOPNOTSUPP one without file handles; EXDEV a btrfs
subvolume whose fsid differs from that of its superblock's root; ENOSPC fs.fanotify.max_user_marks.
"""

from __future__ import annotations

import ctypes
import os

from livelift.platform.linux.libc import INT, failed, function

CLOEXEC = 0x1
NONBLOCK = 0x2
CLASS_NOTIF = 0x0
UNLIMITED_QUEUE = 0x10
REPORT_FID = 0x200  # 5.1
REPORT_DFID_NAME = 0xC00  # 5.9: FAN_REPORT_DIR_FID | FAN_REPORT_NAME
REPORT_DFID_NAME_TARGET = 0x1E00  # 5.17: the above, FAN_REPORT_FID and FAN_REPORT_TARGET_FID

MARK_ADD = 0x1
MARK_REMOVE = 0x2
MARK_INODE = 0x0
MARK_FILESYSTEM = 0x100  # 4.20

MODIFY = 0x2
ATTRIB = 0x4
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
Q_OVERFLOW = 0x4000
FS_ERROR = 0x8000  # 5.16
RENAME = 0x10000000  # 5.17
ONDIR = 0x40000000

METADATA_VERSION = 3
INFO_FID = 1
INFO_DFID_NAME = 2
INFO_DFID = 3
INFO_OLD_DFID_NAME = 10
INFO_NEW_DFID_NAME = 12

MAX_QUEUED_EVENTS = "/proc/sys/fs/fanotify/max_queued_events"  # 5.13; before that 16,384 and not adjustable

_fanotify_init = function("fanotify_init", ctypes.c_uint, ctypes.c_uint)
_fanotify_mark = function("fanotify_mark", INT, ctypes.c_uint, ctypes.c_uint64, INT, ctypes.c_char_p)


def fanotify_init(flags: int) -> int:
    """A new notification group: its file descriptor."""
    descriptor = int(_fanotify_init(flags, os.O_RDONLY | os.O_CLOEXEC))
    if descriptor < 0:
        raise failed()
    return descriptor


def fanotify_mark(group: int, flags: int, mask: int, fd: int) -> None:
    """Change what the group hears about: the open file ``fd`` (not O_PATH), or with MARK_FILESYSTEM its file system."""
    if _fanotify_mark(group, flags, mask, fd, None) < 0:
        raise failed()
