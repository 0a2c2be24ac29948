"""Driver services: whose."""

from __future__ import annotations

from livelift.adapt.windows.services import RULE, used_services
from livelift.registry.values import list_of, number_of, set_list, set_number, set_text, text_of
from tests.adapt.windows.machine import DISK, ids, pair, run


def test_drivers_of_the_targets_devices_come_with_all_they_have() -> None:
    source, target = pair()
    set_number(target.service("storahci", group="SCSI miniport").make("Parameters"), "BusType", 11)
    source.service("storahci", 4)
    bench = run(RULE, source, target)
    service = bench.control("Services\\storahci")
    assert service is not None and number_of(service.value("Start")) == 0
    parameters = service.get("Parameters")
    assert parameters is not None and number_of(parameters.value("BusType")) == 11
    assert "services/megaraid" in ids(bench)
    (edit,) = (edit for edit in bench.draft.edits if edit.id == "services/storahci")
    assert "Start 4 (0x4) -> 0 (0x0)" in edit.inputs


def test_class_filters_count_and_unused_drivers_stay_the_sources() -> None:
    source, target = pair()
    target.filters(DISK, "DiskDrive", "UpperFilters", ["raidfilt"])
    target.service("raidfilt")
    source.service("backupflt", 1, type=2)
    target.service("backupflt", 3, type=2)
    bench = run(RULE, source, target)
    mine = bench.control("Services\\backupflt")
    assert "services/raidfilt" in ids(bench) and "services/backupflt" not in ids(bench)
    assert mine is not None and number_of(mine.value("Start")) == 1


def test_user_services_and_the_network_stack_are_the_workload() -> None:
    source, target = pair()
    set_text(source.service("Tcpip").make("Parameters"), "Hostname", "old")
    set_text(target.service("Tcpip").make("Parameters"), "Hostname", "new")
    target.device("ROOT\\TCP\\0000", "Tcpip", DISK, 1)
    source.service("app", 2, type=16, image="C:\\app\\app.exe")
    target.service("app", 3, type=16, image="C:\\other.exe")
    target.device("ROOT\\APP\\0000", "app", DISK, 2)
    bench = run(RULE, source, target)
    key = bench.control("Services\\Tcpip\\Parameters")
    app = bench.control("Services\\app")
    assert key is not None and text_of(key.value("Hostname")) == "old"
    assert app is not None and text_of(app.value("ImagePath")) == "C:\\app\\app.exe"


def test_legacy_devices_do_not_make_software_drivers_the_targets() -> None:
    source, target = pair(7601)
    for machine, start in ((source, 1), (target, 3)):
        machine.service("http", start)
        set_text(machine.cs.make("Enum\\ROOT\\LEGACY_HTTP\\0000"), "Service", "HTTP")
    service = run(RULE, source, target).control("Services\\http")
    assert service is not None and number_of(service.value("Start")) == 1


def test_drivers_that_the_kernel_makes_itself_are_no_services() -> None:
    source, target = pair()
    set_text(target.cs.make("Enum\\ACPI_HAL\\PNP0C08\\0"), "Service", "\\Driver\\ACPI_HAL")
    set_list(target.cs.make("Enum\\PCI\\AHCI\\1"), "UpperFilters", ["raidflt"])
    assert set(used_services(target.done())) == {"STORAHCI", "MEGARAID", "NICDRV", "RAIDFLT", "PARTMGR"}
    assert "services/raidflt" not in ids(run(RULE, source, target)), "the target has no such service"


def test_plug_and_play_drivers_of_the_target_alone_are_added_its_own_software_is_not() -> None:
    source, target = pair()
    target.service("newraid", 3)
    target.root.make("DriverDatabase\\DriverPackages\\n.inf_amd64_1\\Configurations\\Install\\Services\\newraid")
    target.service("antivirus", 0, type=2)
    made = ids(run(RULE, source, target))
    assert "services/newraid" in made and "services/antivirus" not in made


def test_the_spelling_of_the_key_is_the_sources() -> None:
    source, target = pair(7601)
    services = source.cs.remove("Services")
    assert services is not None
    services.name = "services"
    source.cs.add(services)
    bench = run(RULE, source, target)
    assert all("\\services\\" in edit.touches for edit in bench.draft.edits)
    added = bench.control("Services\\megaraid")
    assert added is not None and list_of(added.value("Owners")) == ["oem2.inf"]
    assert len([key for key in bench.control("") or () if key.name.lower() == "services"]) == 1
