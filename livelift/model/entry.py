"""What a file-system object is: its address, its attributes, its data map."""

from __future__ import annotations

import stat
from typing import NamedTuple

import msgspec

VOLUME_SHIFT = 56
"""Object ids carry the volume index in their top bits. ext4 inodes are 32 bits; XFS and btrfs use fewer than 56 on any
volume below 64 PiB (XFS: inode number = block address, `xfs_ino_t`)."""


def limbo(map_index: int) -> int:
    """The object id of a map's limbo: a directory of the target where an object waits whose new place has not been
    walked
    yet. Negative, so that it can never be a real inode (inode 2 is the root of every ext4)."""
    return -1 - map_index


def object_id(volume: int, inode: int) -> int:
    """The one number that addresses an object in a job: volume index (0..126) and inode number."""
    if not 0 <= volume < 127 or not 0 < inode < 1 << VOLUME_SHIFT:
        raise ValueError(f"no object id for volume {volume}, inode {inode}")
    return volume << VOLUME_SHIFT | inode


def inode_of(oid: int) -> int:
    return oid & (1 << VOLUME_SHIFT) - 1


def volume_of(oid: int) -> int:
    return oid >> VOLUME_SHIFT


class Attributes(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All that can be set on an object besides its content. Times are ns since the epoch and may be negative.

    ``ctime`` cannot be set; it is the stamp by which the source knows later that something changed.
    ``flags`` are FS_IOC_GETFLAGS bits, ``project`` the quota project id, ``xattrs`` sorted (name, value) pairs in every
    namespace (ACLs, capabilities and SELinux labels are xattrs), ``target`` a symlink's text.
    """

    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    atime: int
    ctime: int
    nlink: int = 1
    rdev: int = 0
    flags: int = 0
    project: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    target: bytes = b""

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)


class Stamp(NamedTuple):
    """What tells cheaply that an object is unchanged: equal stamps, same content and attributes (but see mmap)."""

    size: int
    mtime: int
    ctime: int


def stamp_of(attributes: Attributes) -> Stamp:
    return make_stamp(attributes.size, attributes.mtime, attributes.ctime)


def make_stamp(size: int, mtime: int, ctime: int) -> Stamp:
    """Times folded into 64 signed bits: ext4 holds times up to 2446, int64 nanoseconds end in 2262."""
    if -_I64 <= mtime < _I64 and -_I64 <= ctime < _I64:
        return Stamp(size, mtime, ctime)
    return Stamp(size, (mtime + _I64) % (2 * _I64) - _I64, (ctime + _I64) % (2 * _I64) - _I64)


_I64 = 1 << 63
