"""Driver files and store directories."""

from __future__ import annotations

from livelift.adapt.changes import CopyFile, CopyTree
from livelift.adapt.windows import services
from livelift.adapt.windows.bench import Bench
from livelift.adapt.windows.driver_files import RULE
from livelift.adapt.windows.planned import planned_tree
from livelift.registry.values import set_number
from tests.adapt.windows.machine import SCSI, Maker, findings, ids, pair, run

DRIVERS = "Windows/System32/drivers"


def test_what_the_source_lacks_is_copied_with_the_stores_directories() -> None:
    bench = run(services.RULE, *pair())
    RULE.plan(bench)
    plan = bench.draft.plan("")
    assert [c.path for c in plan.changes(CopyTree)] == [
        "Windows/System32/DriverStore/FileRepository/megaraid.inf_amd64_02"
    ]
    assert {c.path for c in plan.changes(CopyFile)} == {f"{DRIVERS}/megaraid.sys", f"{DRIVERS}/storahci.sys"}
    tree = planned_tree(plan, bench.source.files, bench.target.files)
    assert tree.get(f"{DRIVERS}/MEGARAID.SYS") is not None
    assert tree.get("Windows/System32/DriverStore/FileRepository/megaraid.inf_amd64_02/megaraid.inf") is not None


def both(owners: list[str] | None, version: str = "", *, used: bool = True) -> Bench:
    """Both have the driver, with other files; the target's devices use it or not."""
    source, target = Maker(), Maker()
    for machine, digest in ((source, "a"), (target, "b")):
        machine.service("drv", 3, owners=owners)
        machine.file(f"{DRIVERS}/drv.sys", digest, version=version)
    set_number(target.cs.make("Services\\drv\\Parameters"), "of", 1)
    if used:
        target.device("PCI\\DRV\\1", "drv", SCSI, 3)
    bench = run(services.RULE, source, target)
    RULE.plan(bench)
    return bench


def test_a_vendors_file_is_the_targets_an_in_box_one_the_sources() -> None:
    assert "driver-files/drv" in ids(both(["oem3.inf"]))
    in_box = both(["oem3.inf", "disk.inf"])
    assert "driver-files/drv" not in ids(in_box) and findings(in_box) == ["in-box-files-kept"]


def test_without_owners_the_version_tells_or_it_is_told() -> None:
    for version in ("10.0.17763.1", "6.1.7601.24000", "6.3.9600.1"):
        assert findings(both(None, version)) == ["in-box-files-kept"]
    assert "driver-files/drv" in ids(both(None, "2.10.1.0"))
    assert findings(both(None)) == ["driver-file-differs"]


def test_a_driver_that_the_targets_devices_do_not_use_keeps_the_sources_file() -> None:
    bench = both(["oem3.inf"], used=False)
    assert ids(bench) == findings(bench) == []


def test_a_driver_in_the_store_comes_with_its_directory_or_alone() -> None:
    source, target = Maker(), Maker()
    store = "Windows/System32/DriverStore/FileRepository/umbus.inf_amd64_1"
    target.service(
        "umbus", 3, image="\\SystemRoot\\System32\\DriverStore\\FileRepository\\umbus.inf_amd64_1\\umbus.sys"
    )
    target.device("ROOT\\UMBUS\\1", "umbus", SCSI, 3)
    whole = run(services.RULE, source, target)
    RULE.plan(whole)
    assert [id for id in ids(whole) if id.startswith("driver-files/")] == ["driver-files/store/umbus.inf_amd64_1"]
    source.file(f"{store}/umbus.inf", "x")
    alone = run(services.RULE, source, target)
    RULE.plan(alone)
    assert [id for id in ids(alone) if id.startswith("driver-files/")] == ["driver-files/umbus"]
    source.file(f"{store}/umbus.sys", "another")
    kept = run(services.RULE, source, target)
    RULE.plan(kept)
    assert not any(id.startswith("driver-files/") for id in ids(kept)), "the directory is named by its content"


def test_a_file_of_two_services_is_copied_once() -> None:
    source, target = Maker(), Maker()
    for name in ("one", "two"):
        target.service(name, 3, image="system32\\drivers\\both.sys")
        target.device(f"PCI\\{name}\\1", name, SCSI, 3)
    bench = run(services.RULE, source, target)
    RULE.plan(bench)
    assert len(list(bench.draft.plan("").changes(CopyFile))) == 1


def test_a_boot_file_that_neither_has_stops_the_plan() -> None:
    source, target = Maker(), Maker()
    for machine in (source, target):
        machine.service("ghost", file=False)
        machine.service("later", 3, file=False)
        machine.service("off", 0, override=3, file=False)
        machine.service("Fs_Rec", 0, file=False)
    assert findings(run(RULE, source, target)) == ["boot-file-missing-ghost"]


def test_user_mode_drivers_of_the_target_are_added() -> None:
    source, target = Maker(), Maker()
    target.file(f"{DRIVERS}/UMDF/sensor.dll", "x")
    assert ids(run(RULE, source, target)) == ["driver-files/umdf/sensor.dll"]
