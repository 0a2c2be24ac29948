"""StartOverride of boot buses and storage drivers: as on the target, or a boot driver stays off."""

from __future__ import annotations

from livelift.adapt.windows.bench import Bench, Rule
from livelift.adapt.windows.images import is_driver
from livelift.registry.tree import Key, fold
from livelift.registry.values import number_of, text_of

GROUPS = frozenset(
    fold(name)
    for name in (
        *("Boot Bus Extender", "System Bus Extender", "SCSI miniport", "SCSI Class"),
        *("SCSI CDROM Class", "Primary Disk", "Port"),
    )
)
NAMES = frozenset(
    fold(name)
    for name in (
        *("pci", "vpci", "acpi", "vmbus", "disk", "storahci", "stornvme", "storvsc", "storufs"),
        *("msahci", "atapi", "intelide", "pciide"),
    )
)


def plan(bench: Bench) -> None:
    for service in bench.control_key("Services"):
        theirs = bench.target.control(f"Services\\{service.name}")
        if theirs is None or not is_driver(theirs) or not _boots(theirs):
            continue
        path = f"{bench.set}\\{bench.control_key('Services').name}\\{service.name}\\StartOverride"
        id = f"start-override/{service.name.lower()}"
        if theirs.get("StartOverride") is not None:
            reason = "a boot driver starts as it does on the target"
            bench.graft(id, reason, path, f"{bench.other}\\Services\\{theirs.name}\\StartOverride")
        else:
            reason = "the target starts this driver at boot; StartOverride\\0 = 3 would keep it off (bug check 0x7B)"
            bench.remove_key(id, reason, path)


def _boots(service: Key) -> bool:
    group = fold(text_of(service.value("Group")))
    return fold(service.name) in NAMES or group in GROUPS or number_of(service.value("Start")) == 0


RULE = Rule(
    id="start-override",
    touches=r"CSn\Services\<boot driver>\StartOverride",
    does="As on the target for every driver of a bus, of storage or of the boot phase that both have; removed where "
    "the "
    ""
    "target has none.",
    why='The value "0" = 3 turns a driver with Start = 0 off: the disk behind it is not found.',
    evidence="stornvme had one in a real 10 1903 hive (measured); vpci left overridden gave 0x7B (SAP-on-Azure issue "
    "147, read).",
    plan=plan,
)
