"""A merge is clean, and each planted fault is found under its id."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from livelift.adapt.windows.consistency import check
from livelift.adapt.windows.files import FileView
from livelift.adapt.windows.planner import make_plan
from livelift.adapt.windows.system import SYSTEM, System
from livelift.checks.findings import Level
from livelift.registry.tree import Key
from livelift.registry.values import BINARY, set_list, set_number, set_text
from tests.adapt.windows.machine import DISK, NET, SCSI, merged_system, pair


def merge(build: int = 17763) -> tuple[System, System, System]:
    one, two = pair(build)
    source, target = one.done(), two.done()
    plan = make_plan(source, target)
    plan.check()
    return merged_system(plan, source, target), source, target


@pytest.mark.parametrize("build", [7601, 9600, 17763, 20348, 26100])
def test_a_merge_is_clean(build: int) -> None:
    assert check(*merge(build)) == []


def cs(merged: System) -> Key:
    found = merged.control("")
    assert found is not None
    return found


def root(merged: System) -> Key:
    return merged.hives[SYSTEM].root


def without(merged: System, path: str) -> None:
    merged.files = FileView((file for file in merged.files if file.path != path), ["Windows"])


def key_of(top: Key, path: str) -> Key:
    found = top.find(path)
    assert found is not None, path
    return found


FAULTS: dict[str, tuple[str, Callable[[System], object]]] = {
    "current set missing": ("select-wrong", lambda m: set_number(root(m).make("Select"), "Current", 7)),
    "last known good is another": ("select-wrong", lambda m: set_number(root(m).make("Select"), "LastKnownGood", 2)),
    "failed set": ("select-wrong", lambda m: set_number(root(m).make("Select"), "Failed", 1)),
    "service gone": ("enum-service-missing", lambda m: key_of(cs(m), "Services").remove("storahci")),
    "device names no service": (
        "enum-service-missing",
        lambda m: set_text(cs(m).make("Enum\\PCI\\AHCI\\1"), "Service", "nosuch"),
    ),
    "driver instance gone": (
        "driver-value-dangling",
        lambda m: key_of(cs(m), f"Control\\Class\\{SCSI}").remove("0000"),
    ),
    "class filter without service": (
        "filter-dangling",
        lambda m: set_list(cs(m).make(f"Control\\Class\\{DISK}"), "LowerFilters", ["gone"]),
    ),
    "class filter disabled": ("filter-dangling", lambda m: set_number(cs(m).make("Services\\partmgr"), "Start", 4)),
    "device filter without service": (
        "filter-dangling",
        lambda m: set_list(cs(m).make("Enum\\PCI\\AHCI\\1"), "UpperFilters", ["gone"]),
    ),
    "boot file gone": ("boot-file-missing", lambda m: without(m, "Windows/System32/drivers/megaraid.sys")),
    "image path elsewhere": (
        "boot-file-missing",
        lambda m: set_text(cs(m).make("Services\\storahci"), "ImagePath", "system32\\drivers\\other.sys", 2),
    ),
    "used file gone": ("driver-file-missing", lambda m: without(m, "Windows/System32/drivers/nicdrv.sys")),
    "boot driver off": ("boot-driver-off", lambda m: set_number(cs(m).make("Services\\storahci"), "Start", 3)),
    "boot driver overridden": (
        "boot-driver-off",
        lambda m: set_number(cs(m).make("Services\\storahci\\StartOverride"), "0", 3),
    ),
    "owner of the wrong number": (
        "oem-disagrees",
        lambda m: set_list(cs(m).make("Services\\pvscsi"), "Owners", ["oem2.inf"]),
    ),
    "InfPath of the wrong number": (
        "oem-disagrees",
        lambda m: set_text(cs(m).make(f"Control\\Class\\{SCSI}\\0001"), "InfPath", "oem0.inf"),
    ),
    "text of an unknown number": (
        "oem-unknown",
        lambda m: set_text(cs(m).make("Services\\disk"), "DisplayName", "@oem99.inf,%a%;b"),
    ),
    "package gone from every place": (
        "oem-unknown",
        lambda m: (
            key_of(root(m), "DriverDatabase\\DriverInfFiles").remove("oem2.inf"),
            without(m, "Windows/INF/oem2.inf"),
        ),
    ),
    "INF file gone": ("oem-file-missing", lambda m: without(m, "Windows/INF/oem2.inf")),
    "renumbered INF not renamed": ("oem-file-missing", lambda m: without(m, "Windows/INF/oem0.inf")),
    "package names another INF": (
        "oem-disagrees",
        lambda m: set_text(root(m).make("DriverDatabase\\DriverPackages\\pvscsi.inf_amd64_01"), "", "oem2.inf"),
    ),
    "package gone": (
        "oem-package-missing",
        lambda m: key_of(root(m), "DriverDatabase\\DriverPackages").remove("megaraid.inf_amd64_02"),
    ),
    "active package unknown": (
        "oem-active",
        lambda m: set_text(root(m).make("DriverDatabase\\DriverInfFiles\\oem2.inf"), "Active", "x.inf_amd64_09"),
    ),
    "device id of a number that is not registered": (
        "oem-ids",
        lambda m: root(m).make("DriverDatabase\\DeviceIds\\PCI\\X").set("oem7.inf", BINARY, b""),
    ),
    "bit missing in the map": ("oem-map", lambda m: root(m).make("DriverDatabase").set("OemInfMap", BINARY, b"\0\0")),
    "letter of the source's disk": (
        "letter-foreign",
        lambda m: root(m).make("MountedDevices").set("\\DosDevices\\D:", BINARY, bytes(12)),
    ),
    "no system letter": ("system-letter-missing", lambda m: root(m).make("MountedDevices").unset("\\DosDevices\\C:")),
    "one volume under two letters": (
        "letter-twice",
        lambda m: (
            root(m)
            .make("MountedDevices")
            .set("\\DosDevices\\E:", BINARY, root(m).make("MountedDevices").value("\\DosDevices\\C:").data)
        ),  # type: ignore[union-attr]
    ),
    "setup goes on": ("setup-pending", lambda m: set_number(root(m).make("Setup"), "SetupType", 2)),
    "setup command": ("setup-pending", lambda m: set_text(root(m).make("Setup"), "CmdLine", "setup.exe")),
    "pending renames": (
        "pending-renames",
        lambda m: set_list(cs(m).make("Control\\Session Manager"), "PendingFileRenameOperations", ["\\??\\C:\\a"]),
    ),
    "boot key of the target": (
        "identity-mixed",
        lambda m: setattr(cs(m).make("Control\\Lsa\\JD"), "class_name", b"n\0e\0w\0"),
    ),
    "name of the target": (
        "identity-mixed",
        lambda m: set_text(cs(m).make("Control\\ComputerName\\ComputerName"), "ComputerName", "new"),
    ),
    "licence of the target": ("identity-mixed", lambda m: set_text(root(m).make("WPA"), "licence", "new")),
    "network component without service": (
        "network-service-missing",
        lambda m: (
            set_text(cs(m).make("Control\\Network\\{c}\\{1}\\Ndi"), "Service", "nicdrv"),
            key_of(cs(m), "Services").remove("nicdrv"),
        ),
    ),
    "display adapter without settings": (
        "video-missing",
        lambda m: set_text(cs(m).make("Enum\\PCI\\AHCI\\1\\Device Parameters"), "VideoID", "{9}"),
    ),
    "binding to an adapter that is gone": (
        "binding-dangling",
        lambda m: key_of(cs(m), f"Control\\Class\\{NET}").remove("0000"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str) -> None:
    merged, source, target = merge()
    expected, plant = FAULTS[fault]
    plant(merged)
    found = check(merged, source, target)
    hits = [finding for finding in found if finding.id == expected]
    assert hits, found
    assert all(finding.level >= Level.WARNING and finding.diagnosis for finding in hits)
    assert all(finding.remedy for finding in hits if finding.level is Level.INHIBITOR)


def test_what_was_wrong_on_the_target_before_is_a_note() -> None:
    one, two = pair()
    set_text(two.cs.make("Enum\\USB\\OLD\\1"), "Service", "removed")
    source, target = one.done(), two.done()
    (found,) = check(merged_system(make_plan(source, target), source, target), source, target)
    assert (found.id, found.level) == ("enum-service-missing", Level.NOTE)


@pytest.mark.parametrize(("start", "found"), [(1, ["driver-file-missing"]), (3, []), (4, [])])
def test_a_missing_file_matters_where_the_driver_starts(start: int, found: list[str]) -> None:
    one, two = pair()
    one.service("filter", start, type=2)
    source, target = one.done(), two.done()
    merged = merged_system(make_plan(source, target), source, target)
    without(merged, "Windows/System32/drivers/filter.sys")
    told = check(merged, source, target)
    assert [finding.id for finding in told] == found
    assert all(finding.level is Level.WARNING for finding in told)


def test_a_file_that_was_missing_before_is_a_note() -> None:
    one, two = pair()
    one.service("filter", 1, type=2, file=False)
    source, target = one.done(), two.done()
    (found,) = check(merged_system(make_plan(source, target), source, target), source, target)
    assert (found.id, found.level) == ("driver-file-missing", Level.NOTE)
