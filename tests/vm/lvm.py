"""A root on a logical volume, made without LVM on the host.

The file system is put 1 MiB behind the partition's begin, which is where the first extent of a physical volume lies
(lvmconfig(8), devices/default_data_alignment). So the sealing boot has only to write the labels before it looks for its
root: a script in an initramfs of its own does that and hands over to the distribution's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

BEFORE: Final = 1 << 20
"""Bytes of the partition in front of the file system."""
EXTENT: Final = 4 << 20
ROOT: Final = "/dev/mapper/vg-root"
SCRIPT: Final = """#!/bin/sh
mkdir -p /dev /proc /sys /run/lock
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
modprobe -a virtio_pci virtio_blk ahci sd_mod nvme dm_mod
while [ ! -b @PARTITION@ ]; do sleep 1; done
export DM_DISABLE_UDEV=1
lvm pvcreate --yes --dataalignment 1m @PARTITION@
lvm vgcreate --physicalextentsize 4m vg @PARTITION@
lvm lvcreate --yes --activate n --zero n --extents 100%FREE --name root vg
umount /sys /proc /dev
exec /init
"""


def room(partition: int) -> int:
    """Bytes for the file system: whole extents, and one less for what the metadata takes."""
    return (partition - BEFORE) // EXTENT * EXTENT - EXTENT


def initrd(distribution: Path, partition: str, out: Path) -> Path:
    """The distribution's with our script ``/lvm-first`` in front (an archive that is not compressed comes first: Linux,
    Documentation/driver-api/early-userspace/buffer-format.rst); for ``rdinit=``."""
    script = SCRIPT.replace("@PARTITION@", partition).encode()
    archive = _entry("lvm-first", 0o100755, script) + _entry("TRAILER!!!", 0, b"")
    out.write_bytes(archive + bytes(-len(archive) % 512) + distribution.read_bytes())
    return out


def _entry(name: str, mode: int, data: bytes) -> bytes:
    """cpio(5), "newc"."""
    fields = (1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
