"""The boot store (BCD): the target's, checked, with the source's flags for signing and the hypervisor."""

from __future__ import annotations

from livelift.adapt.windows.bench import Bench, Rule
from livelift.adapt.windows.system import BCD
from livelift.registry.tree import Hive, Key, fold
from livelift.registry.values import text_of

PLACES = ("EFI/Microsoft/Boot/BCD", "Boot/BCD")
"""On the EFI system partition, and on the active partition of a BIOS machine."""
BOOTMGR = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}"
DEFAULT, DEVICE, PATH, OS_DEVICE, SYSTEM_ROOT = "23000003", "11000001", "12000002", "21000001", "22000002"
"""Elements as their hexadecimal names: default entry of the boot manager; device, path, osdevice, systemroot of a
loader (BCD WMI reference, learn.microsoft.com; seen in a UEFI store)."""
FLAGS = {
    "16000049": "testsigning",
    "16000048": "nointegritychecks",
    "250000f0": "hypervisorlaunchtype",
    "25000020": "nx",
    "25000061": "numproc",
}
LOADERS = ("winload.efi", "winload.exe")


def plan(bench: Bench) -> None:
    store = bench.target.hives.get(BCD)
    if store is None:
        bench.draft.inhibit(
            "bcd-unknown",
            "the target's boot store is not known: whether it starts the system that will be there cannot be checked",
            f"mount its system partition and give the file ({' or '.join(PLACES)})",
        )
        return
    entry = default_entry(store)
    if entry is None:
        bench.draft.inhibit(
            "bcd-no-default", "the target's boot manager has no default entry that exists", "repair it: bcdboot"
        )
        return
    _check(bench, entry)
    _flags(bench, entry)


def default_entry(store: Hive) -> Key | None:
    """The object that the boot manager starts when nothing is chosen."""
    default = store.find(f"Objects\\{BOOTMGR}\\Elements\\{DEFAULT}")
    guid = text_of(default.value("Element")) if default is not None else ""
    return store.find(f"Objects\\{guid}") if guid else None


def element(entry: Key, number: str) -> str:
    key = entry.find(f"Elements\\{number}")
    return text_of(key.value("Element")) if key is not None else ""


def _check(bench: Bench, entry: Key) -> None:
    for number, name in ((DEVICE, "device"), (OS_DEVICE, "osdevice")):
        if entry.find(f"Elements\\{number}") is None:
            bench.draft.inhibit(
                f"bcd-no-{name}", f"the target's default boot entry has no {name}", "repair it: bcdboot"
            )
    root, path = element(entry, SYSTEM_ROOT), element(entry, PATH)
    expected = bench.source.version.system_root[2:] or "\\Windows"
    if fold(root) != fold(expected):
        bench.draft.inhibit(
            "bcd-system-root",
            f"the target's default boot entry starts {root or 'nothing'}, the source's system is {expected}",
            "bcdedit /set {default} systemroot",
        )
    if path.rpartition("\\")[2].lower() not in LOADERS:
        bench.draft.inhibit(
            "bcd-loader", f"the target's default boot entry runs {path or 'nothing'}", "repair it: bcdboot"
        )
        return
    file = path.strip("\\").replace("\\", "/")
    if bench.source.files.get(file) is None and bench.source.files.knows(file):
        bench.draft.inhibit(
            "bcd-loader-missing",
            f"the target's default boot entry runs {path}, which the source's tree does not have",
            "the source was installed for the other kind of firmware and an incomplete image: copy the file from the "
            "target",
        )


def _flags(bench: Bench, entry: Key) -> None:
    ours = bench.source.hives.get(BCD)
    mine = default_entry(ours) if ours is not None else None
    if mine is None:
        bench.draft.note(
            "bcd-source-unknown", "the source's boot store is not known: its boot flags (testsigning, nx) are not taken"
        )
        return
    for number, name in FLAGS.items():
        key = mine.find(f"Elements\\{number}")
        value = key.value("Element") if key is not None else None
        if value is not None:
            path = f"Objects\\{entry.name}\\Elements\\{number}"
            reason = f"the source's drivers run with this {name}"
            bench.set_value(f"bcd/{name}", reason, path, "Element", value.type, value.data, hive=BCD)


RULE = Rule(
    id="bcd",
    touches="BCD: default entry, device, osdevice, systemroot, path; testsigning, nointegritychecks, "
    "hypervisorlaunchtype, nx, numproc",
    does="The target's store stays and is checked; the flags come from the source's.",
    why="Device elements name disks and partitions of one machine; the entry must start the loader and directory that "
    "will be there.",
    evidence="A UEFI store is a hive of version 1.3 with these elements (measured); their names: BCD WMI reference "
    "(read).",
    plan=plan,
)
