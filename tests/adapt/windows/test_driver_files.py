"""Driver files and store directories."""

from __future__ import annotations

from livelift.adapt.changes import CopyFile, CopyTree
from livelift.adapt.windows import services
from livelift.adapt.windows.driver_files import RULE
from livelift.adapt.windows.planned import planned_tree
from tests.adapt.windows.machine import Maker, findings, ids, pair, run

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


def both(owners: list[str] | None, ours: str = "", theirs: str = "") -> tuple[Maker, Maker]:
    source, target = Maker(), Maker()
    for machine, digest, version in ((source, "a", ours), (target, "b", theirs)):
        machine.service("drv", 3, owners=owners, digest=digest)
        machine.file(f"{DRIVERS}/drv.sys", digest, version=version)
    return source, target


def test_a_vendors_file_is_the_targets_an_in_box_one_the_sources() -> None:
    assert ids(run(RULE, *both(["oem3.inf"]))) == ["driver-files/drv"]
    bench = run(RULE, *both(["disk.inf"]))
    assert ids(bench) == [] and findings(bench) == ["in-box-files-kept"]


def test_where_nothing_tells_the_newer_version_counts_or_it_is_told() -> None:
    assert ids(run(RULE, *both(None, "1.9.0", "1.10.0"))) == ["driver-files/drv"]
    assert ids(run(RULE, *both(None, "1.10.0", "1.9.0"))) == []
    assert findings(run(RULE, *both(None))) == ["driver-file-differs"]


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
