"""Drivers for disks that the target's own initramfs does not mount: which, in which order, unpacked."""

from __future__ import annotations

import lzma
from contextlib import closing
from pathlib import Path

import pytest
import zstandard

from livelift.errors import PreflightError
from livelift.facts.host import Host
from livelift.model.facts import Device, FileSystem
from livelift.takeover.drivers import module_files, wanted
from tests.facts.tree import plant, programs
from tests.machines import change, debian_target

KO = "/lib/modules/6.1/kernel"
ANSWERS = {
    "modprobe --show-depends --set-version=6.1 xfs": f"insmod {KO}/crc32c.ko\ninsmod {KO}/xfs.ko.xz \n",
    "modprobe --show-depends --set-version=6.1 mpt3sas": f"insmod {KO}/raid.ko.zst a=1\ninsmod {KO}/mpt3sas.ko\n",
    "modprobe --show-depends --set-version=6.1 ext4": "builtin ext4\n",
}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    pci = "/sys/devices/pci0000:00/0000:00:05.0"
    root = plant(
        tmp_path,
        {
            f"{KO}/crc32c.ko": b"crc", f"{KO}/xfs.ko.xz": lzma.compress(b"xfs"), f"{KO}/mpt3sas.ko": b"mpt",
            f"{KO}/raid.ko.zst": zstandard.ZstdCompressor().compress(b"raid"),
            f"{pci}/modalias": "pci:v1\n", f"{pci}/block/sdb/sdb1/size": "1", "/sys/module/mpt3sas/refcnt": "1",
            "/sys/bus/pci/drivers/mpt3sas/module": "-> ../../../../module/mpt3sas",
            f"{pci}/driver": "-> ../../../bus/pci/drivers/mpt3sas",
            "/sys/class/block/sdb1": f"-> ../../..{pci}/block/sdb/sdb1",
            "/sys/class/block/sdb": f"-> ../../..{pci}/block/sdb",
        },
    )  # fmt: skip
    return Host(str(root), programs(ANSWERS))


def test_what_another_file_system_needs(host: Host) -> None:
    sdb = Device(name="sdb", path="/dev/sdb", kind="disk")
    sdb1 = Device(name="sdb1", path="/dev/sdb1", kind="part", parents=("sdb",), fstype="xfs", uuid="x")
    home = FileSystem(mountpoint="/home", fstype="xfs", source="/dev/sdb1", device="sdb1")
    facts = debian_target()
    facts = change(facts, devices=(*facts.devices, sdb, sdb1), file_systems=(*facts.file_systems, home))
    assert wanted(host, facts, ["/"]) == []
    assert wanted(host, facts, ["/", "/home"]) == ["mpt3sas", "xfs"]
    lvm = change(sdb1, name="dm-1", kind="lvm", parents=("sdb1",))
    on_lvm = change(facts, devices=(*facts.devices, lvm), file_systems=(change(home, device="dm-1", fstype="ext4"),
                                                                         *facts.file_systems))  # fmt: skip
    assert wanted(host, on_lvm, ["/home"]) == ["mpt3sas", "dm_mod"], "the root is ext4 too"
    host.close()


def test_the_hardware_watchdog(tmp_path: Path) -> None:
    """By its device; a driver that names none by its place among the modules."""
    at = "kernel/drivers/watchdog"
    dep = f"{at}/i6300esb.ko: {at}/watchdog.ko\n{at}/iTCO_wdt.ko.xz:\n{at}/softdog.ko:\nkernel/xfs.ko:\n"
    files: dict[str, str | bytes | None] = {
        "/lib/modules/6.1/modules.dep": dep,
        "/proc/modules": "xfs 1 0 - Live 0x0\niTCO_wdt 1 0\nsoftdog 1 0\ni6300esb 1 0\nwatchdog 1 2\n",
    }
    facts = change(debian_target(), running_kernel="6.1")
    with closing(Host(str(plant(tmp_path / "none", files)))) as host:
        assert wanted(host, facts, ["/"]) == []
    files["/sys/devices/virtual/watchdog/watchdog0/nowayout"] = "0\n"
    files["/sys/class/watchdog/watchdog0"] = "-> ../../devices/virtual/watchdog/watchdog0"
    with closing(Host(str(plant(tmp_path / "no device", files)))) as host:
        assert wanted(host, facts, ["/"]) == ["i6300esb", "iTCO_wdt"]
    files["/sys/devices/virtual/watchdog/watchdog0/device"] = "-> ../../../pci0/wdt"
    files["/sys/devices/pci0/wdt/driver"] = "-> ../../../bus/pci/drivers/sp5100"
    files["/sys/bus/pci/drivers/sp5100/module"] = "-> ../../../../module/sp5100-tco"
    files["/sys/module/sp5100-tco/refcnt"] = "1"
    with closing(Host(str(plant(tmp_path / "device", files)))) as host:
        assert wanted(host, facts, ["/"]) == ["sp5100_tco"]


def test_in_their_order_and_unpacked(host: Host) -> None:
    found = module_files(host, "6.1", ["mpt3sas", "ext4", "xfs"])
    assert [(file.path, file.content) for file in found] == [
        ("/livelift/modules/000-raid.ko", b"raid"),
        ("/livelift/modules/001-mpt3sas.ko", b"mpt"),
        ("/livelift/modules/002-crc32c.ko", b"crc"),
        ("/livelift/modules/003-xfs.ko", b"xfs"),
    ]
    with pytest.raises(PreflightError, match="modprobe does not know nothing"):
        module_files(host, "6.1", ["nothing"])
    host.close()
