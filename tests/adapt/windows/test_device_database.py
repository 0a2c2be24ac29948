"""The databases of drivers: whole from the target, with the source's packages."""

from __future__ import annotations

from livelift.adapt.windows.apply import same_tree
from livelift.adapt.windows.device_database import RULE
from livelift.adapt.windows.oem_numbers import mapped_numbers
from livelift.adapt.windows.system import DRIVERS, SYSTEM
from livelift.registry.tree import Key
from livelift.registry.values import list_of, set_text, text_of
from tests.adapt.windows.machine import Maker, findings, ids, pair, run


def find(top: Key, path: str) -> Key:
    found = top.find(path)
    assert found is not None, path
    return found


def test_seven_takes_the_critical_device_database() -> None:
    source, target = pair(7601)
    set_text(target.cs.make("Control\\CriticalDeviceDatabase\\PCI#X"), "Service", "megaraid")
    set_text(source.cs.make("Control\\CriticalDeviceDatabase\\PCI#Y"), "Service", "pvscsi")
    bench = run(RULE, source, target)
    assert ids(bench) == ["device-database/critical"]
    database = bench.control("Control\\CriticalDeviceDatabase")
    assert database is not None and [key.name for key in database] == ["PCI#X"]


def test_a_colliding_package_goes_in_under_a_free_number_in_all_places() -> None:
    bench = run(RULE, *pair())
    database = find(bench.merged[SYSTEM].root, "DriverDatabase")
    assert text_of(find(database, "DriverPackages\\pvscsi.inf_amd64_01").value("")) == "oem0.inf"
    assert list_of(find(database, "DriverInfFiles\\oem0.inf").value("")) == ["pvscsi.inf_amd64_01"]
    assert [v.name for v in find(database, "DeviceIds\\PCI\\PVSCSI").values] == ["oem0.inf"]
    assert [v.name for v in find(database, "DeviceIds\\PCI\\RAID").values] == ["oem2.inf"]
    assert text_of(find(database, "DriverPackages\\megaraid.inf_amd64_02").value("")) == "oem2.inf"
    assert mapped_numbers(database) == {0, 2}


def test_both_hives_are_united_the_same_way() -> None:
    source, target = pair()
    source.package("oem3.inf", "printer.inf_amd64_03", ["USBPRINT\\X"], hive=DRIVERS)
    target.package("oem3.inf", "gpu.inf_amd64_04", ["PCI\\GPU"], hive=DRIVERS)
    bench = run(RULE, source, target)
    database = find(bench.merged[DRIVERS].root, "DriverDatabase")
    names = {inf.name for inf in find(database, "DriverInfFiles")}
    assert names == {"oem3.inf", "oem1.inf"}, "0 went to the collision in SYSTEM"
    assert [v.name for v in find(database, "DeviceIds\\USBPRINT\\X").values] == ["oem1.inf"]


def test_a_package_that_both_have_is_there_once() -> None:
    source, target = Maker(), Maker()
    source.package("oem1.inf", "same.inf_amd64_01", ["PCI\\A"])
    target.package("oem4.inf", "same.inf_amd64_01", ["PCI\\A"])
    bench = run(RULE, source, target)
    merged = find(bench.merged[SYSTEM].root, "DriverDatabase")
    assert same_tree(merged, find(bench.target.hives[SYSTEM].root, "DriverDatabase"))


def test_a_package_that_the_target_has_in_its_other_hive_is_not_added() -> None:
    source, target = Maker(), Maker()
    source.package("oem1.inf", "same.inf_amd64_01", ["PCI\\A"])
    target.package("oem4.inf", "same.inf_amd64_01", ["PCI\\A"], hive=DRIVERS)
    bench = run(RULE, source, target)
    assert list(find(bench.merged[SYSTEM].root, "DriverDatabase\\DriverInfFiles")) == []


def test_an_in_box_inf_of_both_lists_both_packages_and_the_targets_is_active() -> None:
    source, target = Maker(), Maker()
    source.package("disk.inf", "disk.inf_amd64_aa", ["GenDisk"])
    target.package("disk.inf", "disk.inf_amd64_bb", ["GenDisk"])
    bench = run(RULE, source, target)
    database = find(bench.merged[SYSTEM].root, "DriverDatabase")
    inf = find(database, "DriverInfFiles\\disk.inf")
    assert list_of(inf.value("")) == ["disk.inf_amd64_bb", "disk.inf_amd64_aa"]
    assert text_of(inf.value("Active")) == "disk.inf_amd64_bb"
    assert text_of(find(database, "DriverPackages\\disk.inf_amd64_aa").value("")) == "disk.inf"


def test_a_drivers_hive_of_one_side_alone_is_refused() -> None:
    source, target = pair()
    source.drivers = None
    bench = run(RULE, source, target)
    assert ids(bench)[:2] == ["device-database/system", "device-database/drivers-file"] and findings(bench) == []
    source, target = pair()
    target.drivers = None
    assert findings(run(RULE, source, target)) == ["drivers-hive-missing"]
    source.drivers = None
    assert findings(run(RULE, source, target)) == ["no-drivers-hive"]


def test_another_layout_of_the_drivers_hive_is_refused() -> None:
    source, target = pair()
    assert target.drivers is not None
    target.drivers.remove("DriverDatabase")
    assert findings(run(RULE, source, target)) == ["drivers-hive-unknown-layout"]
