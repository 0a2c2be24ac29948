"""Preflight rules for a whole server: does the source fit on the target's file systems, and do these keep all of it?"""

from __future__ import annotations

from collections.abc import Iterator

from livelift.checks.data import HEADROOM
from livelift.checks.findings import Finding, Level
from livelift.model.facts import FileSystem, ServerFacts

ROOT_TYPES = ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs")
"""File systems that keep everything a root needs: owners, modes, xattrs, ACLs, device nodes, hard links."""
KINDS = ("disk", "part", "lvm", "crypt", "mpath", "loop", "dm")
INITRAMFS_ROOM = 150 << 20
"""Bytes that one more kernel with a full initramfs takes in /boot at most, by the packages of the distributions."""
FEATURES = {
    "casefold": "directories that ignore upper and lower case",
    "encrypt": "encrypted directories (fscrypt)",
    "verity": "files sealed with fs-verity",
    "project": "project quotas",
    "quota": "quotas in the file system",
    "ftype": "file types in directories (overlayfs, and so containers, need them)",
}


def check_room(source: ServerFacts, target: ServerFacts) -> Iterator[Finding]:
    """Of each source file system on the target's ones that its tree will lie on. The old system stays beside it until
    the commit, so only free space counts. Several source file systems may go to one of the target."""
    needs: dict[tuple[str, ...], list[FileSystem]] = {}
    for fs in source.file_systems:
        if fs.mountpoint.startswith(("/boot/efi", "/efi")):
            continue  # the target keeps its own ESP
        places = _places(fs.mountpoint, source, target)
        if places:
            needs.setdefault(tuple(p.mountpoint for p in places), []).append(fs)
    for mountpoints, moved in needs.items():
        room = _once([fs for fs in target.file_systems if fs.mountpoint in mountpoints])
        moved = _once(moved)
        used = int(sum(fs.used for fs in moved) * HEADROOM)
        free = sum(fs.free for fs in room)
        what, where = ", ".join(fs.mountpoint for fs in moved), ", ".join(mountpoints)
        others = {_disk(fs) for other, group in needs.items() if other != mountpoints for fs in group}
        if used > free and not others & {_disk(fs) for fs in moved}:
            yield Finding(
                "target-too-small",
                Level.INHIBITOR,
                f"{what} of the source needs {used >> 20} MiB, {where} of the target has {free >> 20} MiB free",
                "enlarge the target's file system, or remove what is not needed on the source or the target",
            )
        elif used > free or (len(room) > 1 and used > max(fs.free for fs in room)):
            yield Finding(
                "room-split",
                Level.WARNING,
                f"{what} of the source (up to {used >> 20} MiB) is split up on the target; {where} has"
                f" {free >> 20} MiB free, and each part must fit",
                "compare the sizes of these directories on the source (du -xs) with the free space",
            )
        inodes = sum(fs.used_inodes for fs in moved)
        numbered = [fs.free_inodes for fs in room if fs.free_inodes >= 0]
        if len(numbered) == len(room) and inodes > sum(numbered):
            yield Finding(
                "target-inodes",
                Level.INHIBITOR,
                f"{what} of the source holds {inodes} objects, {where} of the target has {sum(numbered)} free inodes",
                "make the target's file system with more inodes (mkfs.ext4 -N)",
            )
    boot = target.mounted("/boot")
    kernels = [k for k in source.kernels if k.image and k.version not in {t.version for t in target.kernels}]
    if boot and boot.free < len(kernels) * INITRAMFS_ROOM:
        yield Finding(
            "boot-room",
            Level.WARNING,
            f"/boot of the target has {boot.free >> 20} MiB free for {len(kernels)} more kernels of the source",
            "remove old kernels on the source",
        )


def _disk(fs: FileSystem) -> str:
    return fs.device or fs.mountpoint


def _once(found: list[FileSystem]) -> list[FileSystem]:
    """Subvolumes of one btrfs share its space: the first of them counts for all."""
    return list({_disk(fs): fs for fs in reversed(found)}.values())[::-1]


def _places(mountpoint: str, source: ServerFacts, target: ServerFacts) -> list[FileSystem]:
    """The target's file systems that the tree at ``mountpoint`` comes to lie on: its holder and those mounted below it,
    unless the source has a file system of its own there."""
    holder = target.holder(mountpoint)
    others = [fs.mountpoint for fs in source.file_systems if fs.mountpoint != mountpoint]
    below = [
        fs
        for fs in target.file_systems
        if fs is not holder
        and _is_below(fs.mountpoint, mountpoint)
        and not fs.mountpoint.startswith(("/boot/efi", "/efi"))
        and not any(_is_below(fs.mountpoint, other) and _is_below(other, mountpoint) for other in others)
    ]
    return ([holder] if holder else []) + below


def _is_below(path: str, parent: str) -> bool:
    return f"{path.rstrip('/')}/".startswith(f"{parent.rstrip('/')}/")


def check_file_systems(source: ServerFacts, target: ServerFacts) -> Iterator[Finding]:
    root = target.mounted("/")
    if root is None:
        yield Finding(
            "target-root-unknown",
            Level.INHIBITOR,
            "the target's root is on no disk file system that is known",
            "the target must run from a disk, not from a live medium or the network",
        )
    for fs in source.file_systems:
        place = target.holder(fs.mountpoint)
        if place is None or fs.mountpoint.startswith(("/boot/efi", "/efi")):
            continue
        if place.fstype not in ROOT_TYPES:
            yield Finding(
                "target-fs",
                Level.INHIBITOR,
                f"{place.mountpoint} of the target is {place.fstype}, which cannot keep {fs.mountpoint} of the source",
                "use ext4, XFS or btrfs on the target",
            )
            continue
        if place.fstype != fs.fstype:
            yield Finding(
                "fs-type-differs",
                Level.NOTE,
                f"{fs.mountpoint} is {fs.fstype} on the source and will be {place.fstype}: other limits, no snapshots"
                " or reflinks carried over",
            )
        for name in sorted(set(fs.features) - set(place.features)):
            if name in FEATURES and place.features:
                yield Finding(
                    "fs-feature",
                    Level.WARNING,
                    f"{fs.mountpoint} of the source may hold {FEATURES[name]}; {place.mountpoint} of the target lacks"
                    f" the feature {name}",
                    f"make the target's file system with {name}, or make sure that it is not in use",
                )
        if "small_inodes" in place.features and "small_inodes" not in fs.features:
            yield Finding(
                "fs-times",
                Level.WARNING,
                f"{place.mountpoint} of the target has inodes of 128 bytes: times in whole seconds, until 2038",
                "make it with mkfs.ext4 -I 256",
            )


def check_stacks(source: ServerFacts, target: ServerFacts) -> Iterator[Finding]:
    stack = target.root_stack()
    odd = [d for d in stack if d.kind not in KINDS and not d.kind.startswith("raid")]
    if odd:
        yield Finding(
            "unusual-storage",
            Level.WARNING,
            f"the target's root lies on {', '.join(f'{d.kind} {d.name}' for d in odd)}, which was never tried",
            "prefer a root on a disk, LVM, md or LUKS; keep a console at hand",
        )
    for device in stack:
        if device.transport in ("iscsi", "fcoe") or device.name.startswith(("nbd", "rbd", "drbd")):
            yield Finding(
                "network-root",
                Level.WARNING,
                f"the target's root is reached over the network ({device.name})",
                "its initramfs must bring up the network; keep a console at hand",
            )
    if any(d.kind == "crypt" for d in stack):
        yield Finding(
            "target-encrypted",
            Level.WARNING,
            "the target's root is encrypted: each boot asks for a passphrase or a key",
            "make sure that somebody or something answers at the reboot of the cutover",
        )
    elif any(d.kind == "crypt" for d in source.root_stack()):
        yield Finding(
            "encryption-lost",
            Level.WARNING,
            "the source's root is encrypted, the target's is not: the data will lie there in the clear",
            "install the target with an encrypted root",
        )
    if any(d.kind == "crypt" or d.fstype == "crypto_LUKS" for d in source.devices) and any(
        d.kind == "crypt" for fs in source.file_systems if fs.mountpoint != "/" for d in source.stack(fs.device)
    ):
        yield Finding(
            "source-encrypted-data",
            Level.NOTE,
            "the source has encrypted file systems besides the root; their content moves, their encryption does not",
        )
    if source.swaps and not target.swaps:
        yield Finding(
            "no-swap", Level.WARNING, "the source has swap, the target has none", "make swap on the target before"
        )
    for entry in source.fstab:
        if entry.vfstype in ("nfs", "nfs4", "cifs", "ceph", "glusterfs"):
            yield Finding(
                "network-mount",
                Level.NOTE,
                f"{entry.file} is mounted from {entry.spec}: the target must reach it, and be allowed to",
            )
