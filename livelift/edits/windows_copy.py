"""Copies between NTFS volumes mounted by ntfs-3g, with what only NTFS has: sparse and compressed content, reparse
points, security descriptor, attributes, short name, times.

What ntfs-3g 2022.10 does, seen on real volumes: the bits of SPARSE and COMPRESSED cannot be set on a file. A file is
compressed if it is made in a directory with that bit, unless the mount has the option ``nocompression``; it is sparse
as soon as it gets a hole. It tells no holes (SEEK_HOLE), so stretches of zeros of a sparse file become them. Reparse
data turns an empty file or directory into a link under the kernel's eyes, which is EIO once, until the name is looked
up again.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import Final

from blake3 import blake3

from livelift.edits.copier import Copier, by_name
from livelift.platform.linux.xattrs import get_whole

ATTRIBUTES: Final = b"system.ntfs_attrib_be"
REPARSE: Final = b"system.ntfs_reparse_data"
NTFS_ATTRIBUTES: Final = (b"system.ntfs_acl", ATTRIBUTES, b"system.ntfs_dos_name", b"system.ntfs_times_be")
"""ntfs-3g(8), "Extended attributes". Times come last: setting the others changes them. Alternate streams are copied
with the other extended attributes, which takes the default streams_interface=xattr of the mount."""

IS_DIRECTORY: Final = 0x10
IS_SPARSE: Final = 0x200
IS_REPARSE: Final = 0x400
IS_COMPRESSED: Final = 0x800
FORMS: Final = {IS_SPARSE: "sparse", IS_COMPRESSED: "compressed", IS_REPARSE: "a reparse point"}

LINKS: Final = frozenset({0xA0000003, 0xA000000C})
"""IO_REPARSE_TAG_MOUNT_POINT (junctions) and _SYMLINK (MS-FSCC 2.1.2.1): the data says all that there is. Of other
reparse points the content lies elsewhere, where the mount may not find it."""

UNIT: Final = 65536
"""Granularity of holes: 16 clusters of 4 KiB, as Windows makes them."""


def bits_of(where: int | bytes) -> int | None:
    """FILE_ATTRIBUTE_*; None: not on ntfs-3g. Of a path that is a link: the link's own."""
    raw = get_whole(where, ATTRIBUTES)
    return None if raw is None else int(struct.unpack(">I", raw)[0])


def link_data(path: bytes) -> bytes | None:
    """The reparse data of a junction or symbolic link of Windows; None for everything else."""
    data = get_whole(path, REPARSE)
    return data if data and len(data) >= 8 and struct.unpack_from("<I", data)[0] in LINKS else None


def set_bits(where: int | bytes, bits: int) -> None:
    os.setxattr(where, ATTRIBUTES, struct.pack(">I", bits), follow_symlinks=isinstance(where, int))


class NtfsCopier(Copier):
    """Where either side is not on ntfs-3g it copies what can be copied; `copy_ntfs` tells the rest."""

    def ready(self, keep: int) -> None:
        """What is made in a compressed directory would be compressed, the hives too, which the boot loader reads."""
        self._compress(keep, False)

    def content(self, from_fd: int, name: bytes, to_fd: int, to: bytes) -> None:
        bits = bits_of(by_name(from_fd, name))
        parent = os.open(os.path.dirname(to) or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=to_fd)
        try:
            self._compress(parent, bool(bits and bits & IS_COMPRESSED))
            super().content(from_fd, name, to_fd, to)
        finally:
            self._compress(parent, False)
            os.close(parent)

    @staticmethod
    def _compress(directory: int, wanted: bool) -> None:
        bits = bits_of(directory)
        if bits is not None and bool(bits & IS_COMPRESSED) is not wanted:
            set_bits(directory, bits ^ IS_COMPRESSED)

    def fill(self, old: int, new: int) -> None:
        bits = bits_of(old)
        if not bits or not bits & IS_SPARSE:
            super().fill(old, new)
            return
        size = os.fstat(old).st_size
        os.ftruncate(new, size)
        for start in range(0, size, UNIT):
            piece = os.pread(old, UNIT, start)
            if piece.count(0) == len(piece):
                continue
            while piece:
                done = os.pwrite(new, piece, start)
                start, piece = start + done, piece[done:]

    def link(self, from_fd: int, name: bytes, to_fd: int, to: bytes) -> None:
        origin, path = by_name(from_fd, name), by_name(to_fd, to)
        data = get_whole(origin, REPARSE)
        if data is None:
            super().link(from_fd, name, to_fd, to)
            return
        bits = bits_of(origin)
        if bits is not None and bits & IS_DIRECTORY:
            os.mkdir(to, 0o700, dir_fd=to_fd)
        else:
            os.mknod(to, stat.S_IFREG | 0o600, dir_fd=to_fd)
        os.setxattr(path, REPARSE, data, follow_symlinks=False)
        try:
            os.lstat(path)
        except OSError as error:
            if error.errno != errno.EIO:
                raise

    def attributes(self, from_fd: int, name: bytes, to_fd: int, to: bytes, st: os.stat_result) -> None:
        """The descriptor after the mode: setting that one writes a descriptor of ntfs-3g's making."""
        super().attributes(from_fd, name, to_fd, to, st)
        copy_ntfs(by_name(from_fd, name), by_name(to_fd, to), short_name=False)

    def size(self, st: os.stat_result) -> int:
        return st.st_size if stat.S_ISREG(st.st_mode) else 0

    def digest(self, fd: int, name: bytes) -> str:
        data = get_whole(by_name(fd, name), REPARSE)
        return super().digest(fd, name) if data is None else str(blake3(data).hexdigest())


def copy_ntfs(origin: bytes, path: bytes, *, short_name: bool = True) -> bool:
    """Security descriptor, attributes, short name and times of an ntfs-3g mount. False: neither has such
    attributes. ``short_name`` False: for an object that is renamed afterwards, which loses it."""
    found = False
    for name in NTFS_ATTRIBUTES:
        if name == b"system.ntfs_dos_name" and not short_name:
            continue
        value = get_whole(origin, name)
        if value is None:
            continue
        try:
            os.setxattr(path, name, value, follow_symlinks=False)
        except FileExistsError:
            pass  # a short name that another file of the directory has already; the long one is what drivers go by
        found = True
    return found


def lost(origin: bytes, path: bytes) -> list[str]:
    """What of the original's form the copy has not, in words."""
    one, other = bits_of(origin), bits_of(path)
    if one is None:
        return []
    return [word for bit, word in FORMS.items() if one & bit and not (other or 0) & bit]
