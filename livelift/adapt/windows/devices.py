"""Device instances (Enum) and what is keyed by them: the target's."""

from __future__ import annotations

from collections.abc import Iterator

from livelift.adapt.windows.bench import Bench, Rule
from livelift.registry.tree import SEPARATOR, Key, fold
from livelift.registry.values import text_of

SOFTWARE_BUSES = ("ROOT", "SWD", "SW")
"""Enumerators of devices that no hardware stands behind."""
WANTED = ("ROOT\\ISCSIPRT",)
"""Software devices that are part of the workload and need no network binding: Microsoft's iSCSI initiator."""
LEGACY = "LEGACY_"
"""Prefix below ROOT: one device for each driver that is not Plug and Play (to Windows 7), made anew when the driver
starts."""
VOLATILE = ("SWD\\PRINTENUM", "SWD\\MMDEVAPI", "SWD\\RADIO", "SWD\\MSRRAS", "SWD\\WPDBUSENUM", "SWD\\IP_TUNNEL_VBUS")
"""Software devices that Windows makes anew from what it finds (printers, audio endpoints, radios, WAN miniports,
portable devices)."""


def plan(bench: Bench) -> None:
    reason = "device instances are those of the target's hardware"
    if not bench.graft_control("devices/enum", reason, "Enum"):
        bench.draft.inhibit("no-enum-target", "the target's control set has no Enum", "check the target's SYSTEM hive")
        return
    _software_devices(bench)


def leaves(enum: Key | None) -> Iterator[tuple[str, Key]]:
    """Device instances (enumerator\\device\\instance) with their keys."""
    for bus in enum or ():
        for device in bus:
            for instance in device:
                yield SEPARATOR.join((bus.name, device.name, instance.name)), instance


def _software_devices(bench: Bench) -> None:
    """Those that only the source has: put back if the workload needs them, else told."""
    lost = []
    merged = bench.control("Enum")
    for path, instance in leaves(bench.source.control("Enum")):
        bus, _, rest = path.partition(SEPARATOR)
        if fold(bus) not in SOFTWARE_BUSES:
            continue
        if any(fold(path).startswith(prefix + SEPARATOR) for prefix in WANTED):
            _keep(bench, path, instance)
            continue
        if merged is not None and merged.find(path) is not None:
            continue
        if fold(rest).startswith(LEGACY) or any(fold(path).startswith(fold(prefix)) for prefix in VOLATILE):
            continue
        lost.append(f"{path} ({text_of(instance.value('Service')) or 'no service'})")
    if lost:
        bench.draft.warn(
            "software-devices-lost",
            f"software devices that only the source has are not moved: {', '.join(sorted(lost))}",
            "install on the target what the workload needs of them (loopback and virtual adapters, virtual buses)",
        )


def _keep(bench: Bench, path: str, instance: Key) -> None:
    """Where the target has it too, only the driver instance is the source's: it holds the targets to connect to."""
    reason = "a software device of the source's workload"
    driver = text_of(instance.value("Driver"))
    guid = driver.partition(SEPARATOR)[0]
    theirs = bench.target.control(f"Enum\\{path}")
    if theirs is None:
        origin = f"{bench.source.control_set}\\Enum\\{path}"
        bench.graft(f"devices/{_name(path)}", reason, f"{bench.set}\\Enum\\{path}", origin, side="source")
    cls = bench.target.control(f"Control\\Class\\{guid}") if driver else None
    if cls is None or bench.source.control(f"Control\\Class\\{driver}") is None:
        return
    new = text_of(theirs.value("Driver")) if theirs is not None else ""
    if not new:
        given = {fold(place) for _, place, _ in bench.kept_instances}
        numbers = (f"{n:04d}" for n in range(10000))
        free = next(n for n in numbers if cls.get(n) is None and fold(f"{guid}\\{n}") not in given)
        new = f"{guid}\\{free}"
    # Control\Class is grafted by the next rule; what is decided here is put in there
    bench.kept_instances.append((path, new, driver))


def _name(path: str) -> str:
    return path.replace(SEPARATOR, "-").lower()


def keep_instances(bench: Bench) -> None:
    """The Class instances of the devices that were kept, under numbers that the target does not use."""
    for path, new, old in bench.kept_instances:
        name = _name(path)
        origin = f"{bench.source.control_set}\\Control\\Class\\{old}"
        reason = "the driver instance of a software device of the source"
        bench.graft(f"devices/{name}/class", reason, f"{bench.set}\\Control\\Class\\{new}", origin, side="source")
        bench.set_text(f"devices/{name}/driver", reason, f"{bench.set}\\Enum\\{path}", "Driver", new)


RULE = Rule(
    id="devices",
    touches=r"CSn\Enum",
    does="The target's whole tree; of the source's software devices only the iSCSI initiator is put back, others are "
    "told.",
    why=r"Device instances are hardware; a Driver value points into Control\Class, so both must come from the same "
    "side.",
    evidence="6,500 to 8,600 keys a machine, Driver values resolve within one machine (measured on three hives).",
    plan=plan,
)
