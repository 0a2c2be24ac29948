"""A plan carried out on real NTFS volumes, and the hives that are written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from livelift.adapt.changes import CopyFile, DeleteFile, RenameFile, SetValue
from livelift.adapt.plan import Draft
from livelift.adapt.windows.system import BCD, SYSTEM
from livelift.cli.main import main
from livelift.edits.windows_apply import file_plan, hive_bytes
from livelift.edits.windows_copy import NTFS_ATTRIBUTES
from livelift.edits.windows_tree import WindowsTree
from livelift.registry.reader import read_hive
from livelift.registry.tree import Hive, Key
from livelift.registry.writer import write_hive
from tests.adapt.windows.machine import pair
from tests.adapt.windows.trees import SECURITY, grow, snapshot
from tests.ntfsfs import make_ntfs

DRIVERS = "Windows/System32/drivers"


@pytest.fixture
def volumes(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Both machines on NTFS, streams as extended attributes (ntfs-3g's default)."""
    with ExitStack() as stack:
        found = []
        for name, machine in zip(("source", "target"), pair(), strict=True):
            (tmp_path / name).mkdir()
            path = stack.enter_context(make_ntfs(tmp_path / name).mounted("streams_interface=xattr"))
            found.append(grow(machine, path))
        yield found[0], found[1]


def attributes(path: Path) -> dict[str, bytes]:
    names = [*map(os.fsdecode, NTFS_ATTRIBUTES), *os.listxattr(path)]
    return {name: os.getxattr(path, name) for name in names}


@pytest.mark.root
def test_on_ntfs_copies_keep_descriptor_attributes_short_name_and_streams(
    volumes: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = volumes
    driver = target / DRIVERS / "megaraid.sys"
    os.setxattr(driver, "user.stream", b"alternate")
    os.setxattr(driver, "system.ntfs_dos_name", b"MEGARA~1.SYS")
    os.setxattr(driver, "system.ntfs_attrib_be", (0x26).to_bytes(4, "big"))
    hive = source / "Windows/System32/config/SYSTEM"
    os.setxattr(hive, "system.ntfs_attrib_be", (0x22).to_bytes(4, "big"))
    number = source / "Windows/INF/oem2.inf"
    old = source / DRIVERS / "disk.sys"
    assert number.exists() and old.exists()
    for path, short in ((number, b"OEM2X~1.INF"), (hive, b"SYSTEM~1"), (old, b"DISKX~1.SYS")):
        os.setxattr(path, "system.ntfs_dos_name", short)
    before = snapshot(source)
    where = ["--source-tree", str(source), "--state", str(tmp_path / "state")]
    assert main(["adapt-windows", *where, "--target-tree", str(target), "--in-place"]) == 0, capsys.readouterr()
    copy = attributes(source / DRIVERS / "megaraid.sys")
    expected = attributes(driver)
    for name, value in expected.items():
        if name == "system.ntfs_times_be":
            assert copy[name][:16] == value[:16], "made and written when the original was"
        else:
            assert copy[name] == value, name
    assert os.getxattr(hive, "system.ntfs_attrib_be") == (0x22).to_bytes(4, "big")
    assert main(["adapt-windows", *where, "--undo"]) == 0
    assert snapshot(source) == before
    for path, short in ((number, b"OEM2X~1.INF"), (hive, b"SYSTEM~1"), (old, b"DISKX~1.SYS")):
        assert os.getxattr(path, "system.ntfs_dos_name") == short, "a rename takes it away, the undo brings it back"


def test_hives_are_read_back_before_they_are_used() -> None:
    hives = {SYSTEM: read_hive(write_hive(Hive(Key("ROOT", security=SECURITY))))}
    hives[SYSTEM].root.make("A").set("v", 1, b"a\0\0\0")
    again = read_hive(hive_bytes(hives)[SYSTEM])
    key = again.find("A")
    assert key is not None and key.value("V") is not None and not again.dirty


def test_paths_are_spelled_as_on_the_disks_and_the_boot_store_is_left(tmp_path: Path) -> None:
    one, two = pair()
    source = grow(one, tmp_path / "s")
    (source / "Windows/System32").rename(source / "Windows/SYSTEM32")
    trees = WindowsTree(str(source)), WindowsTree(str(grow(two, tmp_path / "t")))
    draft = Draft()
    draft.edit("hive-logs/x", "r", DeleteFile("windows/system32/config/system.log1"))
    draft.edit("a", "r", CopyFile("Windows/system32/DRIVERS/New.sys", "windows/system32/drivers/DISK.sys", 1))
    draft.edit("b", "r", RenameFile("WINDOWS/inf/OEM2.inf", "WINDOWS/inf/oem0.inf"))
    draft.edit("c", "r", SetValue("SYSTEM", "k", "v", 1, b""))
    made = file_plan(draft.plan("t"), {SYSTEM: b"hive", BCD: b"store"}, *trees)
    assert [(edit.id, edit.touches) for edit in made.edits] == [
        ("a", "Windows/SYSTEM32/drivers/New.sys"),
        ("b", "Windows/INF/oem2.inf"),
        ("hive/system", "Windows/SYSTEM32/config/SYSTEM"),
        ("hive-logs/x", "Windows/SYSTEM32/config/SYSTEM.LOG1"),
    ], "the logs go when the new hive is there"
    copy, rename = made.edits[0].change, made.edits[1].change
    assert isinstance(copy, CopyFile) and copy.origin == "Windows/System32/drivers/disk.sys"
    assert isinstance(rename, RenameFile) and rename.to == "Windows/INF/oem0.inf"
