"""Services, driver instances, filters and driver files of the merged system."""

from __future__ import annotations

from collections.abc import Iterator

from livelift.adapt.windows.devices import LEGACY, leaves
from livelift.adapt.windows.images import WITHOUT_FILE, image_path, is_driver
from livelift.adapt.windows.services import used_services
from livelift.adapt.windows.system import System
from livelift.checks.findings import Finding, Level
from livelift.registry.tree import Key, fold
from livelift.registry.values import list_of, number_of, text_of

BOOT, SYSTEM_START, OFF = 0, 1, 4
FILTERS = ("UpperFilters", "LowerFilters")
REMEDY = "look at the plan's edits of this key and at the rules file; do not boot this hive"


def driver_findings(merged: System, source: System, target: System) -> Iterator[Finding]:
    yield from _worse("enum-service-missing", enum_services(merged), enum_services(target))
    yield from _worse("driver-value-dangling", driver_values(merged), driver_values(target))
    yield from _worse("video-missing", video(merged), video(target))
    yield from _worse("filter-dangling", filters(merged), filters(target))
    yield from _files(merged, source, target)
    yield from _switched_off(merged, target)


def _worse(id: str, now: dict[str, str], before: dict[str, str]) -> Iterator[Finding]:
    """What was so on the target already is a note."""
    for what, diagnosis in sorted(now.items()):
        if what in before:
            yield Finding(id, Level.NOTE, f"{diagnosis} (as on the target before)")
        else:
            yield Finding(id, Level.INHIBITOR, diagnosis, REMEDY)


def enum_services(machine: System) -> dict[str, str]:
    """Services that a device names and that do not exist. Devices of legacy drivers are left out: no device is behind
    them."""
    services = machine.control("Services") or Key("")
    found = {}
    for path, device in leaves(machine.control("Enum")):
        name = text_of(device.value("Service"))
        legacy = fold(path).startswith("ROOT\\" + LEGACY)
        if name and not name.startswith("\\") and not legacy and services.get(name) is None:
            found[fold(f"{path} {name}")] = f"the device {path} names the service {name}, which does not exist"
    return found


def driver_values(machine: System) -> dict[str, str]:
    classes = machine.control("Control\\Class") or Key("")
    found = {}
    for path, device in leaves(machine.control("Enum")):
        driver = text_of(device.value("Driver"))
        if driver and classes.find(driver) is None:
            found[fold(path)] = (
                f"the device {path} has the driver instance {driver}, which Control\\Class does not have"
            )
    return found


def video(machine: System) -> dict[str, str]:
    """Display adapters whose settings are not there."""
    known = machine.control("Control\\Video") or Key("")
    found = {}
    for path, device in leaves(machine.control("Enum")):
        parameters = device.get("Device Parameters")
        guid = text_of(parameters.value("VideoID")) if parameters is not None else ""
        if guid and known.get(guid) is None:
            found[fold(path)] = f"the device {path} has the VideoID {guid}, which Control\\Video does not have"
    return found


def filters(machine: System) -> dict[str, str]:
    """Filter names without a service, or with one that is disabled, of classes and devices."""
    services = machine.control("Services") or Key("")
    found = {}
    places = [(f"class {text_of(c.value('Class')) or c.name}", c) for c in machine.control("Control\\Class") or ()]
    places += [(f"device {path}", device) for path, device in leaves(machine.control("Enum"))]
    for where, key in places:
        for value in FILTERS:
            for name in list_of(key.value(value)):
                service = services.get(name)
                if service is None:
                    found[fold(f"{where} {value} {name}")] = f"{where}: {value} names {name}, which is no service"
                elif number_of(service.value("Start"), OFF) == OFF:
                    found[fold(f"{where} {value} {name}")] = f"{where}: {value} names {name}, which is disabled"
    return found


def effective_start(service: Key) -> int:
    """Start, or value "0" of StartOverride where there is one."""
    start = number_of(service.value("Start"), OFF)
    override = service.get("StartOverride")
    return number_of(override.value("0"), start) if override is not None else start


def _files(merged: System, source: System, target: System) -> Iterator[Finding]:
    used = used_services(merged)
    for service in merged.control("Services") or ():
        path = image_path(service.name, service)
        if not is_driver(service) or path is None or fold(service.name) in WITHOUT_FILE:
            continue
        if merged.files.get(path) is not None or not merged.files.knows(path):
            continue
        start = effective_start(service)
        if start == BOOT:
            diagnosis = f"{service.name} starts at boot, and its file {path} is not in the planned tree"
            yield Finding("boot-file-missing", Level.INHIBITOR, diagnosis, REMEDY)
        elif start == SYSTEM_START or (start < OFF and fold(service.name) in used):
            had = target if target.control(f"Services\\{service.name}") is not None else source
            level = Level.NOTE if had.files.get(path) is None else Level.WARNING
            diagnosis = f"{service.name} is used, and its file {path} is not in the planned tree"
            yield Finding("driver-file-missing", level, diagnosis)


def _switched_off(merged: System, target: System) -> Iterator[Finding]:
    """Drivers that the target boots with."""
    for name, why in sorted(used_services(target).items()):
        theirs, ours = target.control(f"Services\\{name}"), merged.control(f"Services\\{name}")
        if theirs is not None and ours is not None and is_driver(theirs):
            before, now = effective_start(theirs), effective_start(ours)
            if before == BOOT and now != BOOT:
                diagnosis = f"{theirs.name} starts at boot on the target ({why}), and would start as {now}"
                yield Finding("boot-driver-off", Level.INHIBITOR, diagnosis, REMEDY)
