"""Stacks of block devices as lsblk tells them, superblocks as mkfs writes them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from livelift.errors import CorruptError
from livelift.facts import blocks
from livelift.facts.host import Host
from livelift.model.facts import ServerFacts, SwapSpace
from tests.facts.tree import plant, programs


def row(kname: str, pkname: str | None, kind: str, **more: object) -> dict[str, object]:
    return {"name": kname, "kname": kname, "pkname": pkname, "type": kind, "size": 1 << 30, **more}


RAID_LVM = [
    row("sda", None, "disk", model="ST1000  ", tran="sata", pttype="gpt"),
    row("sdb", None, "disk"),
    row("sda1", "sda", "part", fstype="linux_raid_member", partuuid="p1", parttype="ABC"),
    row("sdb1", "sdb", "part", fstype="linux_raid_member"),
    row("md0", "sda1", "raid1", fstype="LVM2_member", uuid="pv"),
    row("md0", "sdb1", "raid1", fstype="LVM2_member", uuid="pv"),
    {**row("dm-0", "md0", "lvm", fstype="ext4", uuid="root-uuid", mountpoint="/"), "name": "vg-root"},
]


def test_a_stack_of_lvm_on_raid() -> None:
    found = blocks.parse_lsblk_json(json.dumps({"blockdevices": RAID_LVM}))
    assert [d.name for d in found] == ["sda", "sdb", "sda1", "sdb1", "md0", "dm-0"]
    by_name = {d.name: d for d in found}
    assert by_name["md0"].parents == ("sda1", "sdb1")
    assert by_name["dm-0"].path == "/dev/mapper/vg-root"
    assert (by_name["sda"].model, by_name["sda"].transport, by_name["sda"].table) == ("ST1000", "sata", "gpt")
    assert by_name["sda1"].parttype == "abc"
    facts = ServerFacts(devices=found)
    assert [d.name for d in facts.stack("/dev/mapper/vg-root")] == ["dm-0", "md0", "sda1", "sdb1", "sda", "sdb"]


def test_nested_json_and_pairs_say_the_same() -> None:
    nested = {"blockdevices": [{**row("vda", None, "disk"), "children": [row("vda1", None, "part", label="a b")]}]}
    pairs = (
        'NAME="vda" KNAME="vda" PKNAME="" TYPE="disk" SIZE="1073741824"\n'
        'NAME="vda1" KNAME="vda1" PKNAME="vda" TYPE="part" SIZE="1073741824" LABEL="a\\x20b"\n'
    )
    assert blocks.parse_lsblk_json(json.dumps(nested)) == blocks.parse_lsblk_pairs(pairs)


@pytest.mark.parametrize("text", ["", "[]", '{"blockdevices": 3}', '{"blockdevices": [{"name": "x"}]}'])
def test_what_is_not_lsblk_is_refused(text: str) -> None:
    with pytest.raises(CorruptError):
        blocks.parse_lsblk_json(text)


def test_old_lsblk_and_blkid(tmp_path: Path) -> None:
    """Without udev lsblk knows no content; an old one knows no JSON."""
    pairs = 'NAME="vda1" KNAME="vda1" PKNAME="vda" TYPE="part" SIZE="1073741824" FSTYPE="" UUID=""\n'
    blkid = "DEVNAME=/dev/vda1\nUUID=u-1\nLABEL=my\\ root\nTYPE=ext4\n\nDEVNAME=/dev/vdb\nTYPE=swap\n"
    host = Host(str(tmp_path), programs({"lsblk --pairs": pairs, "blkid": blkid}))
    (device,) = blocks.devices(host)
    assert (device.fstype, device.uuid, device.label) == ("ext4", "u-1", "my root")
    assert host.unread == []


def test_mounted_file_systems(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "/proc/self/mountinfo": "22 1 254:1 / / rw - ext4 /dev/vda1 rw\n"
            "23 22 0:5 / /proc rw - proc proc rw\n"
            "24 22 254:1 /srv /mnt rw - ext4 /dev/vda1 rw\n"
            "25 22 253:0 / /var rw,noatime - xfs /dev/mapper/vg-var rw\n"
            "26 22 0:9 / /nfs rw - nfs4 nas:/x rw\n",
            "/dev/vda1": "",
            "/dev/dm-0": "",
            "/dev/mapper/vg-var": "-> ../dm-0",
        },
    )
    found = blocks.file_systems(Host(str(tmp_path)), ())
    assert [(f.mountpoint, f.device, f.options) for f in found] == [
        ("/", "vda1", ("rw",)),
        ("/var", "dm-0", ("rw", "noatime")),
    ]


@pytest.mark.parametrize(
    ("fstype", "tool", "options", "present", "absent"),
    [
        ("ext4", "mkfs.ext4", ["-q", "-F", "-O", "casefold,project"], {"casefold", "project", "extents"}, {"encrypt"}),
        ("ext4", "mkfs.ext4", ["-q", "-F", "-I", "128"], {"small_inodes"}, {"casefold"}),
        ("ext3", "mkfs.ext3", ["-q", "-F"], {"has_journal"}, {"extents"}),
        ("xfs", "mkfs.xfs", ["-q", "-m", "reflink=1"], {"crc", "ftype", "reflink"}, set()),
        ("xfs", "mkfs.xfs", ["-q", "-m", "reflink=0"], {"crc", "ftype"}, {"reflink"}),
    ],
)
def test_features_of_real_superblocks(
    tmp_path: Path, fstype: str, tool: str, options: list[str], present: set[str], absent: set[str]
) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(300 << 20 if fstype == "xfs" else 16 << 20)
    subprocess.run([tool, *options, str(image)], check=True, capture_output=True, timeout=50)
    found = set(blocks.features(fstype, image.read_bytes()[:4096]))
    assert present <= found and not absent & found


def test_features_of_noise() -> None:
    assert blocks.features("ext4", b"\0" * 4096) == () == blocks.features("btrfs", b"\0" * 4096)
    assert blocks.features("ext4", b"") == () == blocks.features("xfs", b"")


def test_swaps() -> None:
    rows = ("Filename Type Size Used Priority", "/dev/sda2 partition 999420 0 -2", "/dev/zram0 partition 100 0 5")
    text = "\n".join([*rows, "/swap file 4 0 1"])
    assert blocks.parse_swaps(text) == (
        SwapSpace(path="/dev/sda2", kind="partition", size=999420 << 10),
        SwapSpace(path="/swap", kind="file", size=4096),
    )
