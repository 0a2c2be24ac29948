"""The mount table of real systems is read right, and every file system is walked once."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from livelift.facts.mountinfo import Mount, parse_mountinfo, unescape
from livelift.facts.mounts import MountTable, PlannedVolume, plan_volumes
from livelift.model.problem import Skipped
from tests.loopfs import loop_filesystem

ORDINARY = rb"""22 27 0:21 / /proc rw,relatime shared:14 - proc proc rw
23 27 0:22 / /sys rw,relatime shared:2 - sysfs sysfs rw
24 27 0:6 / /dev rw,nosuid shared:8 - devtmpfs udev rw,size=8k,mode=755
26 24 0:24 / /dev/pts rw,nosuid,noexec - devpts devpts rw,gid=5
27 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
28 27 0:23 / /run rw,nosuid - tmpfs tmpfs rw,size=800k
30 27 254:2 / /srv rw,noatime shared:20 master:3 - xfs /dev/vdb rw,inode64
31 27 254:1 /srv-old /var/www rw,relatime shared:1 - ext4 /dev/vda1 rw
32 27 0:40 / /home/u/mnt\040with\011odd\134name rw - nfs4 nas:/export\040one rw,vers=4.2
33 27 7:1 / /snap/core/1 ro,nodev - squashfs /dev/loop1 ro
34 27 0:41 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw,lowerdir=/l,upperdir=/u
35 27 0:42 / /var/lib/lxcfs rw - fuse.lxcfs lxcfs rw
36 27 8:17 / /mnt/usb rw - fuseblk /dev/sdb1 rw
"""


def reasons(skipped: list[Skipped]) -> dict[bytes, str]:
    return {entry.path: entry.reason for entry in skipped}


def test_lines_with_escapes_and_any_number_of_optional_fields() -> None:
    mounts = parse_mountinfo(ORDINARY)
    assert len(mounts) == 13
    assert mounts[6] == Mount(
        30, 27, (254, 2), b"/", b"/srv", b"xfs", b"/dev/vdb", (b"rw", b"noatime"), (b"rw", b"inode64")
    )
    assert mounts[8].mountpoint == b"/home/u/mnt with\todd\\name"
    assert mounts[8].source == b"nas:/export one"
    assert mounts[9].read_only
    assert not mounts[4].read_only


@pytest.mark.parametrize("line", [b"garbage", b"1 2 3:4 / / rw shared:1 ext4 /dev/x rw", b"1 2 x:4 / / rw - ext4 a rw"])
def test_another_format_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        parse_mountinfo(line)


def test_bytes_that_are_no_utf8_and_no_escape() -> None:
    assert unescape(b"\xff\\040\\9") == b"\xff \\9"


def test_whole_server() -> None:
    volumes, skipped = plan_volumes(parse_mountinfo(ORDINARY), [b"/"])
    assert volumes == [
        PlannedVolume(0, os.makedev(254, 1), b"ext4", b"/dev/vda1", b"/", (b"/",)),
        PlannedVolume(1, os.makedev(8, 17), b"fuseblk", b"/dev/sdb1", b"/mnt/usb", (b"/mnt/usb",)),
        PlannedVolume(2, os.makedev(254, 2), b"xfs", b"/dev/vdb", b"/srv", (b"/srv",)),
    ]
    assert reasons(skipped) == {
        b"/dev": "memory-only file system (devtmpfs)",
        b"/dev/pts": "memory-only file system (devpts)",
        b"/home/u/mnt with\todd\\name": "network file system (nfs4 from nas:/export one)",
        b"/proc": "memory-only file system (proc)",
        b"/run": "memory-only file system (tmpfs)",
        b"/snap/core/1": "read-only image (squashfs from /dev/loop1)",
        b"/sys": "memory-only file system (sysfs)",
        b"/var/lib/docker/overlay2/x/merged": "overlay: a view of directories that are copied themselves",
        b"/var/lib/lxcfs": "a program's own file system (fuse.lxcfs), with no disk behind it",
        b"/var/www": "the same files as in /srv-old",
    }


def test_a_root_in_the_middle_of_a_file_system() -> None:
    volumes, skipped = plan_volumes(parse_mountinfo(ORDINARY), [b"/srv/data/"])
    assert [(volume.mountpoint, volume.trees) for volume in volumes] == [(b"/srv/data", (b"/srv/data",))]
    assert skipped == []


def test_a_bind_mount_of_what_is_walked_nowhere_else_is_walked() -> None:
    volumes, skipped = plan_volumes(parse_mountinfo(ORDINARY), [b"/var", b"/srv"])
    assert [(volume.fstype, volume.trees) for volume in volumes] == [
        (b"xfs", (b"/srv",)),
        (b"ext4", (b"/var", b"/var/www")),
    ]
    assert b"/var/www" not in reasons(skipped)


def test_roots_within_roots_are_one_walk() -> None:
    assert plan_volumes(parse_mountinfo(ORDINARY), [b"/", b"/srv"]) == plan_volumes(parse_mountinfo(ORDINARY), [b"/"])


def test_a_root_on_a_memory_file_system_is_named() -> None:
    volumes, skipped = plan_volumes(parse_mountinfo(ORDINARY), [b"/run/app"])
    assert volumes == []
    assert reasons(skipped) == {b"/run/app": "memory-only file system (tmpfs)"}


def test_overmounted_file_systems_are_not_there() -> None:
    mounts = parse_mountinfo(
        ORDINARY
        + b"40 30 254:3 / /srv rw - ext4 /dev/vdc rw\n"  # over /srv
        + b"41 30 254:4 / /srv/below rw - ext4 /dev/vdd rw\n"  # mounted on what is now hidden
        + b"42 40 254:5 / /srv/seen rw - ext4 /dev/vde rw\n"
    )
    table = MountTable(mounts)
    assert [mount.mount_id for mount in mounts[-3:] if table.is_visible(mount)] == [40, 42]
    volumes, _ = plan_volumes(mounts, [b"/srv"])
    assert [volume.source for volume in volumes] == [b"/dev/vdc", b"/dev/vde"]


def test_a_directory_bound_onto_itself_is_not_lost() -> None:
    mounts = parse_mountinfo(ORDINARY + b"40 27 254:1 /opt /opt rw - ext4 /dev/vda1 rw\n")
    volumes, skipped = plan_volumes(mounts, [b"/"])
    assert volumes[0].trees == (b"/", b"/opt")
    assert b"/opt" not in reasons(skipped)


def test_one_file_system_mounted_twice() -> None:
    mounts = parse_mountinfo(ORDINARY + b"40 27 254:2 / /export rw - xfs /dev/vdb rw\n")
    volumes, skipped = plan_volumes(mounts, [b"/"])
    assert [volume.trees for volume in volumes if volume.fstype == b"xfs"] == [(b"/srv",)]
    assert reasons(skipped)[b"/export"] == "the same files as in /srv"


def test_btrfs_subvolumes_are_volumes_of_their_own() -> None:
    mounts = parse_mountinfo(
        b"27 1 0:30 /@ / rw - btrfs /dev/vda2 rw,subvol=/@\n"
        b"28 27 0:30 /@home /home rw - btrfs /dev/vda2 rw,subvol=/@home\n"
        b"29 27 0:30 /@/srv /mnt/bound rw - btrfs /dev/vda2 rw,subvol=/@\n"
    )
    devices = {b"/": 31, b"/home": 32, b"/mnt/bound": 31}
    volumes, skipped = plan_volumes(mounts, [b"/"], devices.__getitem__)
    assert [(volume.index, volume.device, volume.trees) for volume in volumes] == [
        (0, 31, (b"/",)),
        (1, 32, (b"/home",)),
    ]
    assert reasons(skipped) == {b"/mnt/bound": "the same files as in /srv"}


@pytest.mark.root
def test_this_kernel_with_real_btrfs_subvolumes_and_a_bind_mount() -> None:
    with loop_filesystem("btrfs", 128) as disk:
        subprocess.run(["btrfs", "-q", "subvolume", "create", disk / "@home"], check=True, capture_output=True)
        (disk / "home").mkdir()
        (disk / "a b").mkdir()
        source = subprocess.run(["findmnt", "-no", "SOURCE", disk], check=True, capture_output=True, text=True).stdout
        device = source.split("[")[0].strip()
        subprocess.run(["mount", "-o", "subvol=@home", device, disk / "home"], check=True)
        subprocess.run(["mount", "--bind", disk / "home", disk / "a b"], check=True)
        try:
            mounts = parse_mountinfo(Path("/proc/self/mountinfo").read_bytes())
            volumes, skipped = plan_volumes(mounts, [os.fsencode(disk)], lambda path: os.stat(path).st_dev)
        finally:
            subprocess.run(["umount", disk / "a b"], check=True)
            subprocess.run(["umount", disk / "home"], check=True)
    found = [os.fsdecode(volume.mountpoint).removeprefix(str(disk)) for volume in volumes]
    assert found == ["", "/home"]
    assert reasons(skipped) == {os.fsencode(disk / "a b"): f"the same files as in {disk}/home"}
    assert volumes[0].device != volumes[1].device
