"""A tree on disk as a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from livelift.adapt.windows.system import DRIVERS, SOFTWARE, SYSTEM
from livelift.edits.windows_tree import WindowsTree
from livelift.errors import HiveError, UsageError
from tests.adapt.windows.machine import pair
from tests.adapt.windows.realhives import need_hives, unpack
from tests.adapt.windows.trees import grow, put


@pytest.fixture
def root(tmp_path: Path) -> Path:
    machine = pair()[0]
    machine.service("vendor", 1, image="\\??\\C:\\Program Files\\V\\vendor.sys", file=False)
    machine.service("missing", 1, image="\\??\\C:\\Program Files\\V\\missing.sys", file=False)
    put(tmp_path / "Program Files/V/vendor.sys", b"v")
    return grow(machine, tmp_path)


def test_hives_version_and_listing(root: Path) -> None:
    made = WindowsTree(str(root)).machine()
    assert set(made.hives) == {SYSTEM, SOFTWARE, DRIVERS}
    assert (made.version.build, made.version.system_root) == (17763, "C:\\Windows")
    assert made.hives[SOFTWARE].counts() == (4, 4), "only what is looked at"
    disk, vendor = made.files.get("windows/system32/DRIVERS/Disk.sys"), made.files.get("program files/v/vendor.sys")
    assert disk is not None and disk.size == len("in-box") and len(disk.digest) == 64
    assert vendor is not None and vendor.path == "Program Files/V/vendor.sys"
    missing = "Program Files/V/missing.sys"
    assert made.files.get(missing) is None and made.files.knows(missing)
    assert not made.files.knows("Program Files/V/other.sys"), "nobody has looked"


def test_a_directory_that_is_not_there_is_not_known(root: Path) -> None:
    (root / "Windows/INF").rename(root / "Windows/elsewhere")
    assert not WindowsTree(str(root)).machine().files.knows("Windows/INF/oem1.inf")


def test_spelling(root: Path) -> None:
    tree = WindowsTree(str(root))
    assert tree.spell("WINDOWS/system32/Drivers/NEW.sys") == "Windows/System32/drivers/NEW.sys"
    assert tree.spell("New/Dir/x") == "New/Dir/x"
    assert tree.find("windows/inf/OEM2.INF") == "Windows/INF/oem2.inf" and tree.find("windows/inf/oem9.inf") is None


def test_two_spellings_of_one_name_are_refused(root: Path) -> None:
    put(root / "Windows/inf/x.inf", b"")
    with pytest.raises(UsageError, match="takes them for one file"):
        WindowsTree(str(root))


def test_a_link_on_the_way_is_refused(root: Path) -> None:
    (root / "Windows/INF").rename(root / "INF")
    (root / "Windows/INF").symlink_to(root / "INF")
    with pytest.raises(UsageError, match="symbolic link"):
        WindowsTree(str(root)).machine()


def test_a_file_that_the_mount_cannot_read_is_refused(root: Path) -> None:
    (root / "Windows/System32/drivers/wof.sys").symlink_to("unsupported reparse tag 0x80000017")
    with pytest.raises(UsageError, match="compressed by the system"):
        WindowsTree(str(root)).machine()


def test_no_windows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no Windows"):
        WindowsTree(str(tmp_path))


def test_a_damaged_hive_is_told(root: Path) -> None:
    path = root / "Windows/System32/config/SYSTEM"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(HiveError):
        WindowsTree(str(root)).machine()


def test_a_log_without_its_twin_is_noted(root: Path) -> None:
    need_hives()
    put(root / "Windows/System32/config/SYSTEM", unpack("SYSTEM_B"))
    put(root / "Windows/System32/config/system.LOG1", unpack("SYSTEM_B.LOG1"))
    (root / "Windows/System32/config/SYSTEM.LOG1").unlink()
    tree = WindowsTree(str(root))
    alone = tree.hive("Windows/System32/config/SYSTEM")
    assert alone is not None
    put(root / "Windows/System32/config/SYSTEM.LOG2", unpack("SYSTEM_B.LOG2"))
    both = WindowsTree(str(root)).hive("Windows/System32/config/SYSTEM")
    assert both is not None and both.recovered and both.notes == []
    assert any("only" in note for note in alone.notes) or alone.dirty
