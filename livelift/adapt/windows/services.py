"""Driver services: those that the target's devices use come from the target, the rest is the source's workload."""

from __future__ import annotations

from collections.abc import Iterator

from livelift.adapt.windows.bench import Bench, Rule
from livelift.adapt.windows.classes import FILTERS
from livelift.adapt.windows.devices import LEGACY, leaves
from livelift.adapt.windows.images import is_driver
from livelift.adapt.windows.system import SYSTEM, System
from livelift.registry.tree import Key, fold
from livelift.registry.values import list_of, text_of

NETWORK_STACK = frozenset(
    map(fold, ("Tcpip", "Tcpip6", "NetBT", "Dhcp", "Dnscache", "LanmanServer", "LanmanWorkstation"))
)
"""Their parameters hold the source's configuration; the rule ``network`` merges what belongs to adapters."""


def plan(bench: Bench) -> None:
    used = used_services(bench.target)
    offered = offered_services(bench.target)
    source = bench.source.control("Services") or Key("")
    for service in bench.target.control("Services") or ():
        name = service.name
        why = used.get(fold(name))
        mine = source.get(name)
        if fold(name) in NETWORK_STACK:
            continue
        if why and (is_driver(service) or mine is None):
            reason = f"a driver that the target's devices use ({why})"
        elif mine is None and is_driver(service) and fold(name) in offered:
            reason = "a Plug and Play driver that only the target has: its driver database offers it"
        else:
            continue
        bench.graft(
            f"services/{name.lower()}",
            reason,
            _path(bench, name, mine),
            f"{bench.other}\\{_services(bench.target)}\\{name}",
        )


def used_services(machine: System) -> dict[str, str]:
    """Folded names of the services that devices and classes name, each with one that names it. The legacy devices of
    drivers that are not Plug and Play do not count: those drivers are software."""
    found: dict[str, str] = {}
    for path, device in leaves(machine.control("Enum")):
        if fold(path).startswith("ROOT\\" + LEGACY):
            continue
        for name in _named(device):
            found.setdefault(fold(name), path)
    for cls in machine.control("Control\\Class") or ():
        for value in FILTERS:
            for name in list_of(cls.value(value)):
                found.setdefault(fold(name), f"{value} of class {text_of(cls.value('Class')) or cls.name}")
    return found


def _named(device: Key) -> Iterator[str]:
    """\\Driver\\ACPI_HAL and the like are drivers that the kernel makes itself, not services."""
    service = text_of(device.value("Service"))
    if service and not service.startswith("\\"):
        yield service
    for value in FILTERS:
        yield from list_of(device.value(value))


def offered_services(machine: System) -> set[str]:
    """Folded names of the services that the machine's driver database installs for some device."""
    found = {fold(text_of(key.value("Service"))) for key in machine.control("Control\\CriticalDeviceDatabase") or ()}
    for package in machine.hives[SYSTEM].find("DriverDatabase\\DriverPackages") or ():
        for configuration in package.get("Configurations") or ():
            found.update(fold(service.name) for service in configuration.get("Services") or ())
            found.add(fold(text_of(configuration.value("Service"))))
    return found - {""}


def _services(machine: System) -> str:
    """The key's own spelling ("services" in Windows 7)."""
    key = machine.control("Services")
    return key.name if key is not None else "Services"


def _path(bench: Bench, name: str, mine: Key | None) -> str:
    return f"{bench.set}\\{_services(bench.source)}\\{mine.name if mine is not None else name}"


RULE = Rule(
    id="services",
    touches=r"CSn\Services\<driver> (Type 1, 2, 4, 8)",
    does="A driver that the target's Enum or class filters name is the target's; other drivers and all services are "
    "the "
    ""
    "source's; Plug and "
    "Play drivers that only the target has are added.",
    why="A boot needs Type, Start, Group, Tag, ErrorControl and ImagePath of the drivers of the target's devices, as "
    "they work there.",
    evidence="virt-v2v inject_virtio_win.ml writes these values (source read); Owners and Tag in hives (measured).",
    plan=plan,
)
