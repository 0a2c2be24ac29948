"""Which driver belongs to which device: CriticalDeviceDatabase, or DriverDatabase with the DRIVERS hive."""

from __future__ import annotations

from livelift.adapt.changes import CopyFile, CopyValues
from livelift.adapt.windows.bench import Bench, Rule
from livelift.adapt.windows.oem_numbers import databases, map_of, mapped_numbers, number_in
from livelift.adapt.windows.system import DRIVERS, HIVE_FILES
from livelift.registry.tree import Key, fold
from livelift.registry.values import BINARY, SZ, list_of, text_data

REASON = "the target's drivers are found by the target's devices"


def plan(bench: Bench) -> None:
    if not bench.generation.driver_database:
        if not bench.graft_control("device-database/critical", REASON, "Control\\CriticalDeviceDatabase"):
            bench.draft.inhibit(
                "no-device-database-target", "the target has no CriticalDeviceDatabase", "check its hive"
            )
        return
    if not bench.graft("device-database/system", REASON, "DriverDatabase", "DriverDatabase"):
        bench.draft.inhibit("no-device-database-target", "the target has no DriverDatabase", "check its SYSTEM hive")
        return
    _drivers_hive(bench)
    theirs = dict(databases(bench.target))
    for hive, ours in databases(bench.source):
        if hive in theirs:
            _unite(bench, hive, ours, theirs[hive])


def _drivers_hive(bench: Bench) -> None:
    has = [DRIVERS in machine.hives for machine in (bench.source, bench.target)]
    file = bench.target.files.get(HIVE_FILES[DRIVERS])
    if has == [True, True]:
        if not bench.graft("device-database/drivers", REASON, "DriverDatabase", "DriverDatabase", hive=DRIVERS):
            bench.draft.inhibit(
                "drivers-hive-unknown-layout",
                "the target's DRIVERS hive has no key DriverDatabase: its layout is not the known one",
                "report it, with the output of livelift hive show",
            )
    elif has == [False, True] and file is not None:
        change = CopyFile(HIVE_FILES[DRIVERS], file.path, file.size, file.digest)
        bench.edit("device-database/drivers-file", f"{REASON}; the source has no DRIVERS hive", change)
    elif has == [False, False] and file is None:
        bench.draft.warn(
            "no-drivers-hive",
            "neither machine has a DRIVERS hive: devices that are not needed to boot will be installed anew",
            "give both trees whole (Windows/System32/config/DRIVERS)",
        )
    else:
        bench.draft.inhibit(
            "drivers-hive-missing",
            "only one machine's DRIVERS hive is known; it must come from the same side as DriverDatabase",
            "give Windows/System32/config/DRIVERS of both",
        )


def _unite(bench: Bench, hive: str, ours: Key, theirs: Key) -> None:
    """Packages that only the source has go in; third-party ones under their new number."""
    numbers = bench.numbers
    added = set()
    for inf in ours.get("DriverInfFiles") or ():
        number = number_in(inf.name)
        move = numbers.get(number) if number is not None else None
        if move is not None and move.shared:
            continue
        name = f"oem{move.number}.inf" if move is not None else inf.name
        known = theirs.find(f"DriverInfFiles\\{name}")
        if known is None:
            _add(bench, hive, inf, name)
            if move is not None:
                added.add(move.number)
        elif move is None:
            _append(bench, hive, inf, known)
    old = theirs.value("OemInfMap")
    if added and old is not None:
        bench.set_value(
            f"oem-inf/{hive.lower()}/map",
            "the numbers in use, with those of the source's packages",
            "DriverDatabase",
            "OemInfMap",
            BINARY,
            map_of(mapped_numbers(theirs) | added, len(old.data)),
            hive=hive,
        )


def _add(bench: Bench, hive: str, inf: Key, name: str) -> None:
    """DriverInfFiles, DriverPackages and the values of DeviceIds of one package."""
    label = f"{'oem-inf' if number_in(name) is not None else 'device-database'}/{hive.lower()}/{name.lower()}"
    reason = "a driver package that only the source has"
    if name != inf.name:
        reason += f", there {inf.name}: the target uses that number for another package"
    origin = f"DriverDatabase\\DriverInfFiles\\{inf.name}"
    bench.graft(label, reason, f"DriverDatabase\\DriverInfFiles\\{name}", origin, hive=hive, side="source")
    for package in list_of(inf.value("")):
        path = f"DriverDatabase\\DriverPackages\\{package}"
        if bench.graft(f"{label}/{package.lower()}", reason, path, path, hive=hive, side="source"):
            bench.set_value(f"{label}/{package.lower()}/name", reason, path, "", SZ, text_data(name), hive=hive)
    ids = "DriverDatabase\\DeviceIds"
    if any(
        True for _, key in (bench.source.hives[hive].find(ids) or Key("")).walk() if key.value(inf.name) is not None
    ):
        bench.edit(f"{label}/device-ids", reason, CopyValues(hive, ids, ids, inf.name, name))


def _append(bench: Bench, hive: str, inf: Key, known: Key) -> None:
    """An in-box INF of both, at different patch levels: both packages stay, the target's is the active one."""
    first = list_of(known.value(""))
    have = {fold(name) for name in first}
    new = [name for name in list_of(inf.value("")) if fold(name) not in have]
    if not new:
        return
    label = f"device-database/{hive.lower()}/{inf.name.lower()}"
    reason = (
        "both machines have other versions of this in-box package; the target's stays active, as its devices use it"
    )
    bench.set_list(label, reason, f"DriverDatabase\\DriverInfFiles\\{known.name}", "", [*first, *new], hive=hive)
    for package in new:
        path = f"DriverDatabase\\DriverPackages\\{package}"
        bench.graft(f"{label}/{package.lower()}", reason, path, path, hive=hive, side="source")


RULE = Rule(
    id="device-database",
    touches=r"CSn\Control\CriticalDeviceDatabase; \DriverDatabase in SYSTEM and in DRIVERS",
    does="Windows 7 and 2008 R2: the target's CriticalDeviceDatabase. Later: the target's DriverDatabase in both "
    "hives, "
    "with the packages that only the source has.",
    why="The boot finds the driver of a device by its ids here; the source's packages (printers, virtual devices) must "
    "still be known.",
    evidence="From Windows 8 on CriticalDeviceDatabase is absent (hives of four versions, measured); layout of "
    "DriverDatabase: measured; "
    "of the DRIVERS hive: from public driver tools, not seen.",
    plan=plan,
)
