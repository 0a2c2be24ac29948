"""Does the merged system agree with itself? Looked at apart from the rules: hives and planned files in, findings out.

What is wrong already on the machine that it comes from (real machines have such) is a note; what the merge would bring
is an inhibitor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from livelift.adapt.windows.apply import same_tree
from livelift.adapt.windows.consistency_drivers import driver_findings
from livelift.adapt.windows.consistency_oem import oem_findings
from livelift.adapt.windows.identity import KEYS, ROOTS
from livelift.adapt.windows.mounted_devices import is_fixed, letters, system_letter
from livelift.adapt.windows.network import component_services
from livelift.adapt.windows.system import SYSTEM, System
from livelift.checks.findings import Finding, Level
from livelift.registry.tree import Key, fold
from livelift.registry.values import list_of, number_of, text_of

Check = Callable[[System, System, System], Iterator[Finding]]


def check(merged: System, source: System, target: System) -> list[Finding]:
    """``merged``: the hives after the plan, with the planned tree as its files."""
    found = list(select_findings(merged, source, target))
    if merged.current:
        for part in PARTS:
            found += part(merged, source, target)
    return found


def select_findings(merged: System, source: System, target: System) -> Iterator[Finding]:
    select = merged.hives[SYSTEM].find("Select") or Key("")
    numbers = {name: number_of(select.value(name)) for name in ("Current", "Default", "LastKnownGood")}
    told = ", ".join(f"{name} = {number}" for name, number in numbers.items())
    if not merged.current:
        yield _inhibitor("select-wrong", f"Select names no control set that exists: {told}")
    elif set(numbers.values()) != {source.current} or number_of(select.value("Failed")) != 0:
        yield _inhibitor("select-wrong", f"Select: {told}, Failed = {number_of(select.value('Failed'))}")


def volume_findings(merged: System, source: System, target: System) -> Iterator[Finding]:
    """Every letter of a disk volume is one of the target's."""
    volumes = {value.data for value in (target.hives[SYSTEM].find("MountedDevices") or Key("")).values}
    here = {letter: data for letter, data in letters(merged).items() if is_fixed(data)}
    home = system_letter(merged)
    if home not in here:
        yield _inhibitor("system-letter-missing", f"{home}: is no volume on a disk in MountedDevices")
    for letter, data in sorted(here.items()):
        if data not in volumes:
            yield _inhibitor("letter-foreign", f"{letter}: is a volume that the target does not have: {data.hex(' ')}")
    for data in {data for data in here.values() if list(here.values()).count(data) > 1}:
        same = " and ".join(f"{letter}:" for letter in sorted(here) if here[letter] == data)
        yield _inhibitor("letter-twice", f"{same} are the same volume")


def setup_findings(merged: System, source: System, target: System) -> Iterator[Finding]:
    setup = merged.hives[SYSTEM].find("Setup") or Key("")
    for name in ("SystemSetupInProgress", "SetupType"):
        if number_of(setup.value(name), 0) != 0:
            yield _inhibitor("setup-pending", f"Setup\\{name} is not 0: the boot would start a setup")
    if text_of(setup.value("CmdLine")):
        yield _inhibitor("setup-pending", f"Setup\\CmdLine would run: {text_of(setup.value('CmdLine'))}")
    manager = merged.control("Control\\Session Manager") or Key("")
    for name in ("PendingFileRenameOperations", "PendingFileRenameOperations2"):
        if manager.value(name) is not None:
            yield _inhibitor("pending-renames", f"{name} would rename files of the merged tree")


def identity_findings(merged: System, source: System, target: System) -> Iterator[Finding]:
    for path in KEYS:
        if not same_tree(source.control(path), merged.control(path)):
            yield _inhibitor("identity-mixed", f"{path} is not the source's")
    for path in ROOTS:
        if not same_tree(source.hives[SYSTEM].find(path), merged.hives[SYSTEM].find(path)):
            yield _inhibitor("identity-mixed", f"{path} is not the source's")


def binding_findings(merged: System, source: System, target: System) -> Iterator[Finding]:
    """Adapters that the bindings of TCP/IP name are installed; so are the services of network components."""

    def dangling(machine: System) -> set[str]:
        known = {fold(guid) for guid in _adapter_guids(machine)}
        linkage = machine.control("Services\\Tcpip\\Linkage")
        bound = list_of(linkage.value("Bind")) if linkage is not None else []
        guids = {fold(name.rpartition("\\")[2]) for name in bound}
        return {guid for guid in guids if guid.startswith("{") and guid not in known}

    services = merged.control("Services") or Key("")
    known = target.control("Services") or Key("")
    for component, name in component_services(merged):
        if services.get(name) is None:
            level = Level.NOTE if known.get(name) is None else Level.INHIBITOR
            diagnosis = f"the network component {component} names the service {name}, which does not exist"
            yield Finding("network-service-missing", level, diagnosis, REMEDY)
    before = dangling(target)
    for guid in sorted(dangling(merged)):
        level = Level.NOTE if guid in before else Level.INHIBITOR
        yield Finding("binding-dangling", level, f"Tcpip is bound to {guid}, which is no adapter", REMEDY)


def _adapter_guids(machine: System) -> Iterator[str]:
    for cls in machine.control("Control\\Class") or ():
        for instance in cls:
            if guid := text_of(instance.value("NetCfgInstanceId")):
                yield guid


PARTS: tuple[Check, ...] = (
    driver_findings,
    oem_findings,
    volume_findings,
    setup_findings,
    identity_findings,
    binding_findings,
)
REMEDY = "look at the plan's edits of this key and at the rules file; do not boot this hive"


def _inhibitor(id: str, diagnosis: str) -> Finding:
    return Finding(id, Level.INHIBITOR, diagnosis, REMEDY)
