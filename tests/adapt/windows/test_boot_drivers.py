"""What only the source has and would start at boot."""

from __future__ import annotations

from livelift.adapt.windows.bench import Bench, Choices
from livelift.adapt.windows.boot_drivers import RULE
from livelift.registry.values import number_of
from tests.adapt.windows.machine import SCSI, findings, ids, pair, run


def start(bench: Bench, name: str) -> int:
    service = bench.control(f"Services\\{name}")
    assert service is not None
    return number_of(service.value("Start"))


def test_a_hypervisors_driver_and_agent_are_turned_off() -> None:
    source, target = pair()
    source.service("VMTools", 2, type=16, image="C:\\Program Files\\VMware\\vmtoolsd.exe")
    bench = run(RULE, source, target)
    assert ids(bench) == ["boot-drivers/pvscsi", "boot-drivers/vmtools"]
    assert start(bench, "pvscsi") == start(bench, "VMTools") == 4
    assert bench.disabled == {"PVSCSI", "VMTOOLS"}


def test_the_same_hypervisor_keeps_them() -> None:
    source, target = pair()
    source.service("VMTools", 2, type=16)
    bench = run(RULE, source, target, Choices(same_hypervisor=True))
    assert "boot-drivers/vmtools" not in ids(bench)
    assert ids(bench) == ["boot-drivers/pvscsi"], "a vendor's boot driver of a device that the target has not"


def test_a_boot_driver_without_a_file_is_turned_off() -> None:
    source, target = pair()
    source.service("ghost", file=False)
    assert start(run(RULE, source, target), "ghost") == 4


def test_a_vendors_boot_driver_of_the_sources_hardware_is_turned_off_an_in_box_one_is_told() -> None:
    source, target = pair()
    source.service("hpsa", owners=["oem7.inf"])
    source.device("PCI\\HP\\1", "hpsa", SCSI, 5)
    source.service("lsi_sas", owners=["lsi_sas.inf"])
    source.device("PCI\\LSI\\1", "lsi_sas", SCSI, 6)
    bench = run(RULE, source, target)
    assert (start(bench, "hpsa"), start(bench, "lsi_sas")) == (4, 0)
    assert findings(bench) == ["source-boot-driver-kept"]


def test_a_filter_of_the_workload_stays_and_is_told() -> None:
    source, target = pair()
    source.service("snapman", group="PnP Filter")
    bench = run(RULE, source, target)
    assert start(bench, "snapman") == 0 and findings(bench) == ["source-boot-driver-kept"]


def test_what_the_target_has_or_does_not_start_is_left() -> None:
    source, target = pair()
    source.service("vmci", 0)
    target.service("vmci", 0)
    source.service("idle", 0, override=3)
    source.service("later", 3, file=False)
    assert ids(run(RULE, source, target)) == ["boot-drivers/pvscsi"]
