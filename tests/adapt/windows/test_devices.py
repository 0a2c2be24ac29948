"""Enum from the target; software devices of the source."""

from __future__ import annotations

from livelift.adapt.windows import classes, devices
from livelift.adapt.windows.apply import same_tree
from livelift.registry.values import set_text, text_of
from tests.adapt.windows.machine import SCSI, findings, ids, pair, run


def test_enum_is_the_targets_whatever_the_number_of_its_set() -> None:
    source, target = pair()
    bench = run(devices.RULE, source, target)
    assert ids(bench) == ["devices/enum"]
    assert same_tree(bench.control("Enum"), bench.target.control("Enum"))


def test_a_target_without_enum_is_refused() -> None:
    source, target = pair()
    target.cs.remove("Enum")
    bench = run(devices.RULE, source, target)
    assert findings(bench) == ["no-enum-target"] and ids(bench) == []


def test_the_iscsi_initiator_is_put_back_with_a_free_class_instance() -> None:
    source, target = pair()
    source.device("ROOT\\ISCSIPRT\\0000", "iScsiPrt", SCSI, 0)
    bench = run(devices.RULE, source, target)
    classes.plan(bench)
    assert findings(bench) == []
    device = bench.control("Enum\\ROOT\\ISCSIPRT\\0000")
    assert device is not None
    driver = text_of(device.value("Driver"))
    assert driver == f"{SCSI}\\0002", "the target uses 0000 and 0001"
    instance = bench.control(f"Control\\Class\\{driver}")
    assert instance is not None and text_of(instance.value("DriverDesc")) == "iScsiPrt of old"


def test_two_instances_of_one_device_are_two() -> None:
    source, target = pair()
    for number in range(2):
        source.device(f"ROOT\\ISCSIPRT\\000{number}", "iScsiPrt", SCSI, 5 + number)
    bench = run(devices.RULE, source, target)
    classes.plan(bench)
    drivers = []
    for number in range(2):
        device = bench.control(f"Enum\\ROOT\\ISCSIPRT\\000{number}")
        assert device is not None
        drivers.append(text_of(device.value("Driver")))
    assert drivers == [f"{SCSI}\\0002", f"{SCSI}\\0003"]


def test_an_iscsi_initiator_that_both_have_keeps_the_sources_targets() -> None:
    source, target = pair()
    for machine in (source, target):
        machine.device("ROOT\\ISCSIPRT\\0000", "iScsiPrt", SCSI, 4 if machine is source else 2)
    set_text(source.cs.make(f"Control\\Class\\{SCSI}\\0004\\PersistentTargets\\1"), "TargetName", "iqn.san")
    bench = run(devices.RULE, source, target)
    classes.plan(bench)
    device = bench.control("Enum\\ROOT\\ISCSIPRT\\0000")
    assert device is not None and text_of(device.value("Driver")) == f"{SCSI}\\0002"
    kept = bench.control(f"Control\\Class\\{SCSI}\\0002\\PersistentTargets\\1")
    assert kept is not None and text_of(kept.value("TargetName")) == "iqn.san"


def test_other_software_devices_are_told_and_those_made_anew_are_not() -> None:
    source, target = pair()
    set_text(source.cs.make("Enum\\ROOT\\NET\\0000"), "Service", "msloop")
    set_text(source.cs.make("Enum\\ROOT\\LEGACY_HTTP\\0000"), "Service", "HTTP")
    set_text(source.cs.make("Enum\\SWD\\PRINTENUM\\{1}"), "Service", "")
    bench = run(devices.RULE, source, target)
    (found,) = bench.draft.plan("").findings
    assert found.id == "software-devices-lost"
    assert "ROOT\\NET\\0000 (msloop)" in found.diagnosis and "HTTP" not in found.diagnosis
    assert "PRINTENUM" not in found.diagnosis
