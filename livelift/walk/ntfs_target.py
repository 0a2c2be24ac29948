"""Attributes of a replica on ntfs-3g as a Windows source tells them: what ntfs-3g does not list is read by name.

Owner and mode are those that every Windows object travels with (`walk.windows`): what ntfs-3g shows for them follows
from its mount options and the descriptor, which is compared itself.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import Final

import msgspec

from livelift.model.entry import Attributes
from livelift.platform.linux.xattrs import get_whole
from livelift.platform.windows.information import READONLY
from livelift.walk import attributes
from livelift.walk.attributes import Report
from livelift.walk.ntfs_names import NTFS, READ_BACK, settable

MODES: Final = {stat.S_IFREG: 0o644, stat.S_IFDIR: 0o755, stat.S_IFLNK: 0o777}
ATTRIBUTES: Final = NTFS + b"ntfs_attrib_be"
SHORT_NAME: Final = NTFS + b"ntfs_dos_name"
_PATH: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def attributes_at(dir_fd: int, name: bytes, report: Report | None = None) -> Attributes:
    """As `walk.attributes.attributes_at`. On another file system the result is that one's, but for owner and mode."""
    pinned = os.open(name or b".", _PATH, dir_fd=dir_fd)
    try:
        found = attributes.attributes_of_pinned(pinned, report)
        extra = by_name(b"/proc/self/fd/%d" % pinned)
    finally:
        os.close(pinned)
    bits = dict(extra).get(ATTRIBUTES, b"")
    listed = tuple(pair for pair in found.xattrs if not pair[0].startswith(NTFS))
    kind = stat.S_IFMT(found.mode)
    mode = MODES.get(kind, 0)
    if kind == stat.S_IFREG and bits and struct.unpack(">I", bits)[0] & READONLY:
        mode = 0o444
    return msgspec.structs.replace(
        found, mode=kind | mode, uid=0, gid=0, flags=0, xattrs=tuple(sorted((*listed, *extra)))
    )


def by_name(path: bytes) -> list[tuple[bytes, bytes]]:
    """``path`` is followed: a magic link leads to the object itself, also if that is a symlink."""
    found = []
    for name in (NTFS + b"ntfs_" + rest for rest in READ_BACK):
        try:
            value = get_whole(path, name, follow=True)
        except PermissionError:
            if name != SHORT_NAME:
                raise
            continue  # what ntfs-3g says of the volume's root, which has no name
        if value is None:
            continue
        if name == ATTRIBUTES:
            value = struct.pack(">I", settable(struct.unpack(">I", value)[0]))
        found.append((name, value))
    return found
