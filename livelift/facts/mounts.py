"""The mount table, and which file systems a job has to read: proc(5), /proc/pid/mountinfo."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from livelift.facts.mountinfo import Mount
from livelift.model.problem import Skipped

MEMORY_FILESYSTEMS: Final = frozenset(
    b"""autofs bdev binder binfmt_misc bpf cgroup cgroup2 configfs cpuset debugfs devpts devtmpfs efivarfs functionfs
    fusectl hugetlbfs mqueue nfsd nsfs pipefs proc pstore ramfs resctrl rootfs rpc_pipefs securityfs selinuxfs smackfs
    sockfs sysfs tmpfs tracefs xenfs""".split()
)
"""Made by the kernel, or gone at the next boot: nothing in them is moved."""

NETWORK_FILESYSTEMS: Final = frozenset(
    b"""9p afs beegfs ceph cifs coda davfs fuse.ceph fuse.gcsfuse fuse.glusterfs fuse.mfs fuse.rclone fuse.s3fs
    fuse.sshfs gfs2 gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs smb3 smbfs virtiofs""".split()
)
"""Live on other machines (or are shared with them): the new server mounts them too, copying them would fork them."""

IMAGE_FILESYSTEMS: Final = frozenset(b"cramfs erofs iso9660 romfs squashfs udf".split())
"""Read-only images: what they are mounted from is a file that is copied (snap), or a medium."""


class PlannedVolume(msgspec.Struct, frozen=True, array_like=True):
    """A file system that takes part. ``trees``: the places where it is entered; ``mountpoint`` is the first."""

    index: int
    device: int
    fstype: bytes
    source: bytes
    mountpoint: bytes
    trees: tuple[bytes, ...]


def is_below(path: bytes, parent: bytes) -> bool:
    """Whether ``path`` is ``parent`` or lies in it. Both absolute and without a slash at the end."""
    return path == parent or parent == b"/" or path.startswith(parent + b"/")


class MountTable:
    """Which mount a path leads to, with mounts that lie over each other."""

    def __init__(self, mounts: Iterable[Mount]) -> None:
        self._over: dict[tuple[int, bytes], Mount] = {}
        known = {mount.mount_id: mount for mount in mounts}
        self._base = None
        for mount in known.values():
            if mount.parent_id in known and mount.parent_id != mount.mount_id:
                self._over[mount.parent_id, mount.mountpoint] = mount
            elif mount.mountpoint == b"/" and self._base is None:
                self._base = mount

    def find(self, path: bytes) -> Mount | None:
        """The mount that holds ``path`` (absolute, no symlinks in it); None if the table has no root."""
        here = self._base
        prefix = b""
        for part in [b"", *path.split(b"/")]:
            prefix = prefix.rstrip(b"/") + b"/" + part if part else prefix or b"/"
            while here is not None and (above := self._over.get((here.mount_id, prefix))) is not None:
                here = above
        return here

    def is_visible(self, mount: Mount) -> bool:
        """False for a mount that another one was put over, on the same directory or on one above."""
        found = self.find(mount.mountpoint)
        return found is not None and found.mount_id == mount.mount_id


def plan_volumes(
    mounts: Iterable[Mount],
    roots: Iterable[bytes],
    device_of: Callable[[bytes], int] | None = None,
) -> tuple[list[PlannedVolume], list[Skipped]]:
    """Which file systems lie under the source directories ``roots`` (absolute, real paths), and which are left out.

    Every file is reached once: of two mounts of one directory the wider one is taken (else the older), so a bind mount
    of something that is walked anyway is skipped, and one of something that is walked nowhere else is not.
    ``device_of`` gives st_dev of a path (os.stat); without it the superblock's number is used, wrong on btrfs.
    """
    mounts = list(mounts)
    table = MountTable(mounts)
    wanted = sorted({b"/" + root.strip(b"/") for root in roots})
    tops = [root for root in wanted if not any(is_below(root, other) for other in wanted if other != root)]

    entered: dict[bytes, Mount] = {}  # where the walk comes into a mount
    for root in tops:
        if (holder := table.find(root)) is not None:
            entered[root] = holder
        entered.update(
            (mount.mountpoint, mount)
            for mount in mounts
            if mount.mountpoint != root and is_below(mount.mountpoint, root) and table.is_visible(mount)
        )

    skipped: list[Skipped] = []
    views: list[tuple[bytes, bytes, Mount]] = []  # (directory inside the file system, path, mount)
    for path, mount in sorted(entered.items()):
        if reason := _unfit(mount, is_top=path in tops):
            skipped.append(Skipped(path, reason))
        else:
            inside = mount.root.rstrip(b"/") + path[len(mount.mountpoint.rstrip(b"/")) :]
            views.append((b"/" + inside.strip(b"/"), path, mount))

    trees: dict[int, list[tuple[bytes, bytes, Mount]]] = {}
    age = {mount.mount_id: number for number, mount in enumerate(mounts)}  # ids are used again; lines are in order
    for view in sorted(views, key=lambda view: (_depth(view[0]), age[view[2].mount_id])):
        inside, path, mount = view
        device = device_of(path) if device_of else os.makedev(*mount.device)
        taken = trees.setdefault(device, [])
        for other_inside, other_path, other in taken:
            if is_below(inside, other_inside):
                rest = inside[len(other_inside.rstrip(b"/")) :]
                same = b"/" + (other_path + rest).strip(b"/") if rest != b"/" else other_path
                if table.find(same) == other:  # not if a mount hides it there, as with a directory bound onto itself
                    skipped.append(Skipped(path, f"the same files as in {os.fsdecode(same)}"))
                    break
        else:
            taken.append(view)

    volumes: list[PlannedVolume] = []
    for device, taken in sorted(trees.items(), key=lambda item: min(view[1] for view in item[1])):
        paths = sorted(view[1] for view in taken)
        mount = taken[0][2]
        volumes.append(PlannedVolume(len(volumes), device, mount.fstype, mount.source, paths[0], tuple(paths)))
    return volumes, sorted(skipped, key=lambda entry: entry.path)


def _unfit(mount: Mount, *, is_top: bool) -> str:
    """Why a file system does not take part, or an empty string."""
    kind = os.fsdecode(mount.fstype)
    if mount.fstype in MEMORY_FILESYSTEMS:
        return f"memory-only file system ({kind})"
    if mount.fstype in NETWORK_FILESYSTEMS:
        return f"network file system ({kind} from {os.fsdecode(mount.source)})"
    if mount.fstype in IMAGE_FILESYSTEMS:
        return f"read-only image ({kind} from {os.fsdecode(mount.source)})"
    if mount.fstype == b"fuse" or mount.fstype.startswith(b"fuse."):  # fuseblk (ntfs-3g) is a real disk
        return f"a program's own file system ({kind}), with no disk behind it"
    if mount.fstype == b"overlay" and not is_top:
        return "overlay: a view of directories that are copied themselves"
    return ""


def _depth(path: bytes) -> int:
    return path.rstrip(b"/").count(b"/")
