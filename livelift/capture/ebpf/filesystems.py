"""Which file systems mode `ebpf` is for: those on which its order has been tried. The others are refused by name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from livelift.errors import UnfitFilesystemError
from livelift.ports import WatchedVolume

TRIED: Final = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs"})
"""ext2 and ext3: by the ext4 driver."""

WHY: Final = {
    "overlay": "its files are changed on the file system below it",
    "fuse": "a program changes its files, out of the kernel's sight",
    "nfs": "other machines change its files, too",
}


def check(volumes: Iterable[WatchedVolume], sys: str = "/sys") -> None:
    """UnfitFilesystemError: one of them is none for this mode."""
    for volume in volumes:
        if reason := _unfit(volume, sys):
            raise UnfitFilesystemError(
                f"{os.fsdecode(volume.mountpoint)} ({volume.fstype}): {reason}",
                remedy="use --capture auto; the cutover's fence makes its cut exact",
            )


def _unfit(volume: WatchedVolume, sys: str) -> str:
    if volume.fstype not in TRIED:
        family = volume.fstype.partition(".")[0].rstrip("4").removesuffix("blk")
        return WHY.get(family, "the order of its changes has not been tried")
    if _has_dax(volume.device, sys):
        return "its device is memory (DAX): stores into mapped files are on it at once, and nothing tells of them"
    return ""


def _has_dax(device: int, sys: str) -> bool:
    """Whether files may be mapped straight from the device: sysfs-block(5), queue/dax; of a partition, its disk's."""
    place = f"{sys}/dev/block/{os.major(device)}:{os.minor(device)}"
    for queue in (f"{place}/queue/dax", f"{place}/../queue/dax"):
        try:
            with open(queue, encoding="ascii") as file:
                return file.read().strip() == "1"
        except OSError:
            continue
    return False
