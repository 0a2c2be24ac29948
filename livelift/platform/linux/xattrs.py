"""Extended attributes of ntfs-3g, which has two ways of its own (seen in 2022.10.3).

It answers EIO, not ERANGE, where a value does not fit into the caller's buffer, and `os.getxattr` offers 128 bytes
first: longer descriptors and reparse data could not be read. And it lists none of its ``system.ntfs_*`` attributes.
"""

from __future__ import annotations

import ctypes
import errno
from typing import Final

from livelift.platform.linux.libc import INT, failed, function

ROOM: Final = 65536
"""XATTR_SIZE_MAX (linux/limits.h)."""
NO_SUCH: Final = frozenset({errno.ENODATA, errno.EOPNOTSUPP})

_SIGNATURE = (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
_getxattr = function("getxattr", ctypes.c_char_p, *_SIGNATURE, restype=ctypes.c_ssize_t)
_lgetxattr = function("lgetxattr", ctypes.c_char_p, *_SIGNATURE, restype=ctypes.c_ssize_t)
_fgetxattr = function("fgetxattr", INT, *_SIGNATURE, restype=ctypes.c_ssize_t)


def get_whole(where: int | bytes, name: bytes, *, follow: bool = False) -> bytes | None:
    """The value, read into a buffer that has room for any; None: the object or its file system has no such attribute.

    ``where``: descriptor or path. OSError: everything else.
    """
    buffer = ctypes.create_string_buffer(ROOM)
    call = _fgetxattr if isinstance(where, int) else _getxattr if follow else _lgetxattr
    size = call(where, name, buffer, ROOM)
    if size >= 0:
        return buffer.raw[:size]
    error = failed(where if isinstance(where, bytes) else None)
    if error.errno in NO_SUCH:
        return None
    raise error
