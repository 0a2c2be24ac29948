"""fstab and the tables of the storage stack, line by line."""

from __future__ import annotations

from typing import Any

import pytest

from livelift.adapt.changes import CopyFile, DeleteFile
from livelift.adapt.linux.tables import crypttab_entries, fstab_entries, fstab_line, read_fstab
from livelift.adapt.linux.trees import Item
from livelift.model.facts import FileSystem, FstabEntry
from tests.adapt.linux.trees import changes, debian_new, debian_old, findings, plan_of, written
from tests.machines import change, debian_source, debian_target, rocky

SOURCE, TARGET = debian_source(), debian_target()


def fstab(text: str, source: Any = SOURCE, target: Any = TARGET) -> list[str]:
    plan = plan_of(source, target, {**debian_old(), "etc/fstab": text}, debian_new())
    return written(plan, "etc/fstab").splitlines()


def test_lines_survive_reading_and_writing() -> None:
    text = "# c\n\nUUID=1 /a\\040b ext4 defaults 0 2\nbroken line\n/dev/x /y xfs\n"
    lines = read_fstab(text)
    assert "\n".join(line.text for line in lines) + "\n" == text
    first, second = fstab_entries(text)
    assert (first.file, first.passno) == ("/a b", 2) and second.options == ("defaults",)
    assert fstab_line(first) == "UUID=1 /a\\040b ext4 defaults 0 2"


def test_options_are_the_source_s_and_device_options_the_target_s() -> None:
    theirs = (FstabEntry(spec="UUID=b", file="/", vfstype="ext4", options=("defaults", "subvol=@", "x=1"), passno=1),)
    lines = fstab("UUID=a / ext4 noatime,subvolid=9 0 0\n", target=change(TARGET, fstab=theirs))
    assert lines == ["UUID=b / ext4 noatime,subvol=@ 0 1"]


def test_another_type_takes_the_target_s_options() -> None:
    assert fstab("UUID=a / xfs inode64 0 0\n")[0] == "UUID=bbbb-root / ext4 errors=remount-ro 0 1"


def test_mounts_without_a_device() -> None:
    text = (
        "UUID=aaaa-root / ext4 defaults 0 1\nUUID=s /srv xfs defaults 0 2\nUUID=u /usb vfat defaults 0 2\n"
        "nas:/x /nfs nfs4 _netdev 0 0\ntmpfs /tmp tmpfs size=1g 0 0\n/srv/a /b none bind 0 0\n"
        "/swapfile none swap sw 0 0\n"
    )
    srv = FileSystem(mountpoint="/srv", fstype="xfs", source="/dev/sdb1", device="sdb1")
    source = change(SOURCE, file_systems=(*SOURCE.file_systems, srv))
    assert fstab(text, source) == [
        "UUID=bbbb-root / ext4 defaults 0 1",
        "# livelift: now a directory of the file system above it: UUID=s /srv xfs defaults 0 2",
        "UUID=u /usb vfat nofail 0 0",
        "nas:/x /nfs nfs4 _netdev 0 0",
        "tmpfs /tmp tmpfs size=1g 0 0",
        "/srv/a /b none bind 0 0",
        "# livelift: not copied; make it anew (mkswap) and take this line back: /swapfile none swap sw 0 0",
        "UUID=bbbb-swap none swap sw 0 0",
    ]


def test_file_systems_that_only_the_target_has() -> None:
    var = FileSystem(mountpoint="/var", fstype="xfs", source="/dev/vdb", device="vdb")
    entry = FstabEntry(spec="UUID=v", file="/var", vfstype="xfs", passno=2)
    idle = FstabEntry(spec="UUID=i", file="/idle", vfstype="xfs", options=("noauto",))
    target = change(TARGET, file_systems=(*TARGET.file_systems, var), fstab=(*TARGET.fstab, entry, idle))
    assert fstab("UUID=aaaa-root / ext4 defaults 0 1\n", target=target)[1:] == [
        "UUID=v /var xfs defaults 0 2",
        "UUID=bbbb-swap none swap sw 0 0",
    ]


def test_a_swap_file_of_the_target_stays_behind() -> None:
    file = FstabEntry(spec="/swap.img", file="none", vfstype="swap", options=("sw",))
    lines = fstab("UUID=aaaa-root / ext4 defaults 0 1\n", target=change(TARGET, fstab=(TARGET.fstab[0], file)))
    assert lines == ["UUID=bbbb-root / ext4 defaults 0 1"]


def test_a_target_without_a_line_for_the_root() -> None:
    plan = plan_of(SOURCE, change(TARGET, fstab=()), debian_old(), debian_new())
    assert "fstab-root" in findings(plan)


def plan(old: dict[str, str | Item], new: dict[str, str | Item]):  # type: ignore[no-untyped-def]
    return plan_of(SOURCE, TARGET, debian_old(**old), debian_new(**new))


def test_crypttab() -> None:
    ours, theirs = "old UUID=1 none luks\n", "new UUID=2 /etc/keys/new luks\n"
    got = plan({"etc/crypttab": ours}, {"etc/crypttab": theirs, "etc/keys/new": Item("file", 32, 0o400)})
    assert written(got, "etc/crypttab") == theirs
    assert changes(got)["etc/keys/new"] == CopyFile("etc/keys/new", "etc/keys/new", 32)
    assert "crypttab-dropped" in findings(got)
    assert "crypttab-key" in findings(plan({}, {"etc/crypttab": theirs}))
    assert isinstance(changes(plan({"etc/crypttab": ours}, {}))["etc/crypttab"], DeleteFile)
    assert "etc/crypttab" not in changes(plan({"etc/crypttab": "# none\n"}, {}))


def test_crypttab_fields() -> None:
    assert crypttab_entries("# c\na UUID=1\nb /dev/x /key luks,discard\n") == (
        ("a", "UUID=1", "none", ""),
        ("b", "/dev/x", "/key", "luks,discard"),
    )


def test_mdadm() -> None:
    ours = "MAILADDR ops@example.org\nARRAY /dev/md0 UUID=old\n"
    got = plan({"etc/mdadm/mdadm.conf": ours}, {"etc/mdadm/mdadm.conf": "MAILADDR root\nARRAY /dev/md/1 UUID=new\n"})
    assert written(got, "etc/mdadm/mdadm.conf") == "MAILADDR ops@example.org\nARRAY /dev/md/1 UUID=new\n"
    got = plan_of(rocky(SOURCE), rocky(TARGET), {"etc/mdadm.conf": ours}, debian_new())
    assert written(got, "etc/mdadm.conf") == "MAILADDR ops@example.org\n"


def test_lvm() -> None:
    devices = "etc/lvm/devices/system.devices"
    assert isinstance(changes(plan({devices: "x"}, {}))[devices], DeleteFile)
    assert isinstance(changes(plan({devices: "x"}, {devices: "y"}))[devices], CopyFile)
    conf, filtered = "etc/lvm/lvm.conf", 'devices {\n\tglobal_filter = [ "a|sda|", "r|.*|" ]\n}\n'
    assert isinstance(changes(plan({conf: filtered}, {conf: "devices {}\n"}))[conf], CopyFile)
    assert conf not in changes(plan({conf: "\t# global_filter = []\n"}, {conf: "devices {}\n"}))
    assert isinstance(changes(plan({"etc/blkid.tab": Item("file")}, {}))["etc/blkid.tab"], DeleteFile)


def test_lvm_s_backup_of_a_volume_group_is_of_the_disks_that_are_there() -> None:
    ours, theirs = "etc/lvm/backup/vg", "etc/lvm/backup/data"
    got = changes(plan({ours: Item("file"), theirs: Item("file")}, {ours: Item("file")}))
    assert isinstance(got[ours], CopyFile) and isinstance(got[theirs], DeleteFile)
    assert isinstance(changes(plan({}, {theirs: Item("file")}))[theirs], CopyFile)


def test_multipath() -> None:
    wwids = "etc/multipath/wwids"
    assert isinstance(changes(plan({wwids: "/1/"}, {}))[wwids], DeleteFile)
    assert isinstance(changes(plan({wwids: "/1/"}, {wwids: "/2/"}))[wwids], CopyFile)


@pytest.mark.parametrize(
    ("text", "found"),
    [("/dev/sda -a\n", True), ("# /dev/sda\n", False), ("DEVICESCAN\n", False), ("/dev/sdaa\n", False)],
)
def test_stale_device_names_are_told(text: str, found: bool) -> None:
    assert ("stale-device" in findings(plan({"etc/smartd.conf": text}, {}))) is found


def test_resume_without_swap_on_the_target() -> None:
    new = debian_new()
    del new["etc/initramfs-tools/conf.d/resume"]
    target = change(TARGET, fstab=TARGET.fstab[:1])
    got = plan_of(SOURCE, target, debian_old(), new)
    assert written(got, "etc/initramfs-tools/conf.d/resume") == "RESUME=none\n"
