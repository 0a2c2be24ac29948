"""Which object an event of fanotify is about: (fsid, file handle) to object id; and how to mark a volume.

fanotify names a file system by its fsid, as statfs(2) reports it for the root of the superblock. ext4 and btrfs derive
it from the UUID, XFS from the device number. On btrfs all subvolumes share one superblock; the subvolume is in the
handle (``root_objectid``, fs/btrfs/export.h), while statfs(2) mixes it into the fsid. The kernel therefore refuses
(EXDEV) a mark through the mount of a subvolume; opened by its handle, the superblock's root takes the mark.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable
from typing import NamedTuple

from livelift.capture.fanotify_parse import split_key
from livelift.errors import PreflightError
from livelift.model.entry import VOLUME_SHIFT, object_id
from livelift.platform.linux.fanotify import MARK_ADD, MARK_FILESYSTEM, fanotify_mark
from livelift.platform.linux.files import statfs
from livelift.platform.linux.handles import BTRFS, EMPTY_PATH, handle_of, inode_of_handle, open_handle, pack_handle
from livelift.ports import WatchedVolume

BTRFS_TOP = 5
"""BTRFS_FS_TREE_OBJECTID: the subvolume at a btrfs superblock's root; its directory has inode 256."""

CACHE = 1 << 16
"""Handles to remember: decoding one costs about 1 us, finding it 0.1 us. About 20 MB when full."""

Key = tuple[bytes, int]
"""fsid of the superblock and, on btrfs, the subvolume (else 0)."""


class _Place(NamedTuple):
    volume: WatchedVolume
    fd: int  # only where handles have a layout that we cannot read, else -1: an open file keeps umount(8) from working


class ObjectIds(dict[bytes, int]):
    """Keys of `fanotify_parse.parse` to object ids, 0 for what is on no volume of ours or exists no more. A cache."""

    def __init__(self) -> None:
        super().__init__()
        self._own: dict[bytes, int] = {}
        self._places: dict[Key, _Place] = {}
        self._bases: dict[bytes, int] = {}  # the short way: fsid without subvolumes to the volume's part of the id

    def __missing__(self, key: bytes) -> int:
        base = self._bases.get(key[:8])
        if base is not None and (known := inode_of_handle(key[12:])) and 0 < known[0] < 1 << VOLUME_SHIFT:
            oid = base | known[0]
        else:
            oid = self._own.get(key) or self._decode(key)
        if len(self) >= CACHE:
            self.clear()
        self[key] = oid
        return oid

    def _decode(self, key: bytes) -> int:
        fsid, handle = split_key(key)
        place = self._places.get((fsid, _subvolume(handle)))
        if place is None:
            return 0
        if place.fd < 0:
            known = inode_of_handle(handle)
            return object_id(place.volume.index, known[0]) if known else 0
        try:
            fd = open_handle(place.fd, handle, os.O_PATH)
        except OSError as error:
            if error.errno == errno.ESTALE:
                return 0
            raise
        try:
            return object_id(place.volume.index, os.fstat(fd).st_ino)
        finally:
            os.close(fd)

    def add(self, volume: WatchedVolume, fd: int, fsid: bytes, handle: bytes) -> None:
        """Take a volume in, given an open directory on it and that directory's handle."""
        key = (fsid, _subvolume(handle))
        other = self._places.get(key)
        if other is not None and other.volume.device != volume.device:
            both = f"{os.fsdecode(volume.mountpoint)} and {os.fsdecode(other.volume.mountpoint)}"
            raise PreflightError(
                f"{both} have the same file system id",
                remedy="one is a clone of the other: give it a UUID of its own (ext4: tune2fs -U random)",
            )
        status = os.fstat(fd)
        known = inode_of_handle(handle)
        readable = known is not None and known[0] == status.st_ino
        self._places[key] = _Place(volume, -1 if readable else os.dup(fd))
        if readable and not key[1]:
            self._bases[fsid] = volume.index << VOLUME_SHIFT

    def add_own(self, fd: int, number: int) -> None:
        """The capture's own object, open at ``fd``, is called ``number`` (negative)."""
        handle = handle_of(fd, b"", EMPTY_PATH)[0]
        self._own[fsid_of(fd) + struct.pack("=I", len(handle) - 4) + handle] = number

    def close(self) -> None:
        for place in self._places.values():
            if place.fd >= 0:
                os.close(place.fd)
        self._places.clear()
        self._bases.clear()
        self._own.clear()
        self.clear()


def mark_volumes(group: int, mask: int, volumes: Iterable[WatchedVolume], oids: ObjectIds) -> None:
    """Mark every volume's file system and enter it in ``oids``.

    PreflightError: this volume cannot be captured by fanotify. OSError EINVAL: the kernel does not know the mask.
    """
    for volume in volumes:
        fd = os.open(volume.mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(fd).st_dev != volume.device:
                raise PreflightError(
                    f"{os.fsdecode(volume.mountpoint)} is not the volume that it was a moment ago",
                    remedy="something was mounted or unmounted there; start again",
                )
            fsid = _mark(group, mask, fd)
            oids.add(volume, fd, fsid, handle_of(fd, b"", EMPTY_PATH)[0])
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
            where = f"{os.fsdecode(volume.mountpoint)} ({volume.fstype})"
            raise PreflightError(
                f"fanotify does not work on {where}: {_REFUSALS[error.errno]}",
                remedy="use --capture inotify for this job, or leave this volume out",
            ) from error
        finally:
            os.close(fd)


_REFUSALS = {
    errno.ENODEV: "the file system has no id of its own (statfs f_fsid is 0)",
    errno.EOPNOTSUPP: "the file system has no file handles",
    errno.EXDEV: "this subvolume's id differs from that of its file system, whose root cannot be opened",
    errno.ENOSPC: "the limit fs.fanotify.max_user_marks is reached",
}


def _mark(group: int, mask: int, fd: int) -> bytes:
    """Mark the file system of ``fd``; the fsid that its events will carry."""
    try:
        fanotify_mark(group, MARK_ADD | MARK_FILESYSTEM, mask, fd)
        return fsid_of(fd)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        root = _btrfs_root(fd)
        if root < 0:
            raise
        try:
            fanotify_mark(group, MARK_ADD | MARK_FILESYSTEM, mask, root)
            return fsid_of(root)
        finally:
            os.close(root)


def _btrfs_root(fd: int) -> int:
    """The root directory of the btrfs superblock that ``fd`` is on, mounted or not; -1 if it cannot be opened.

    Kernels that do not take generation 0 for "any" want the right one: that of mkfs.btrfs, a small number (3 in 6.2).
    """
    for generation in range(64):
        handle = pack_handle(BTRFS[0], struct.pack("=QQI", 256, BTRFS_TOP, generation))
        try:
            return open_handle(fd, handle, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            if error.errno != errno.ESTALE:
                return -1
    return -1


def fsid_of(fd: int) -> bytes:
    """``f_fsid`` of statfs(2) as fanotify writes it: two native 32-bit words."""
    return struct.pack("=ii", *statfs(fd).fsid)


def _subvolume(handle: bytes) -> int:
    if handle[0] in BTRFS and len(handle) >= 24:
        return int(struct.unpack_from("=Q", handle, 12)[0])
    return 0
