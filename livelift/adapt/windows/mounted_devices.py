"""Drive letters: each source letter names the target's volume that received its data."""

from __future__ import annotations

import re

from livelift.adapt.windows.bench import Bench, Rule
from livelift.adapt.windows.system import SYSTEM, System
from livelift.registry.values import BINARY

LETTER = re.compile(r"\\DosDevices\\([A-Z]):", re.I)


def plan(bench: Bench) -> None:
    theirs, ours = letters(bench.target), letters(bench.source)
    home, away = system_letter(bench.source), system_letter(bench.target)
    chosen = {letter.upper().rstrip(":"): to for letter, to in bench.choices.letters.items()}
    chosen.setdefault(home, away)
    placed: dict[str, bytes] = {}
    for letter in sorted(chosen.keys() | {name for name, data in ours.items() if is_fixed(data)}):
        to = chosen.get(letter, "")
        if to is None:
            continue
        to = to.upper().rstrip(":")
        if not to:
            bench.draft.inhibit(
                f"letter-unmapped-{letter.lower()}",
                f"{letter}: of the source is a volume on a disk; which volume of the target received its data is not "
                "told",
                f"--letter {letter}=X for the target's letter, --letter {letter}=none if it was not moved",
            )
        elif to not in theirs:
            bench.draft.inhibit(
                f"letter-unknown-{letter.lower()}",
                f"{letter}: goes to {to}: of the target, which its MountedDevices does not have",
                "name a letter that the target has",
            )
        elif not is_fixed(theirs[to]):
            bench.draft.inhibit(
                f"letter-removable-{letter.lower()}",
                f"{letter}: goes to {to}: of the target, which is not a volume on a disk partition",
                "name a letter of a disk volume",
            )
        else:
            placed[letter] = theirs[to]
    if unlettered := volumes_without_letter(bench.source):
        bench.draft.note(
            "volumes-without-letter",
            f"the source knows {unlettered} disk volumes without a letter: its system and recovery partitions, or "
            "volumes that are "
            "mounted at a folder",
            "mount those at their folders again after the first boot (mountvol)",
        )
    bench.graft("mounted-devices/tree", "volumes are those of the target's disks", "MountedDevices", "MountedDevices")
    _place(bench, placed, theirs)


def _place(bench: Bench, placed: dict[str, bytes], theirs: dict[str, bytes]) -> None:
    taken = set(placed.values())
    for letter, data in sorted(theirs.items()):
        if letter in placed:
            continue
        if data in taken:
            reason = f"the volume has the source's letter now, not {letter}:"
            bench.remove_value(
                f"mounted-devices/{letter.lower()}", reason, "MountedDevices", f"\\DosDevices\\{letter}:"
            )
    for letter, data in sorted(placed.items()):
        reason = f"{letter}: is the target's volume that received the data of the source's {letter}:"
        bench.set_value(
            f"mounted-devices/{letter.lower()}", reason, "MountedDevices", f"\\DosDevices\\{letter}:", BINARY, data
        )
        if letter in theirs and theirs[letter] not in taken:
            bench.draft.warn(
                "letter-taken",
                f"the target's own volume {letter}: loses its letter to the source's {letter}:",
                "it gets another letter in Disk Management if it is needed",
            )


def letters(machine: System) -> dict[str, bytes]:
    """Upper-case letter to the volume's data."""
    key = machine.hives[SYSTEM].find("MountedDevices")
    found = {}
    for value in key.values if key is not None else ():
        match = LETTER.fullmatch(value.name)
        if match is not None:
            found[match[1].upper()] = value.data
    return found


def volumes_without_letter(machine: System) -> int:
    """Disk volumes that MountedDevices names by their GUID alone."""
    key = machine.hives[SYSTEM].find("MountedDevices")
    named = {value.data for value in (key.values if key is not None else ()) if is_fixed(value.data)}
    return len(named - set(letters(machine).values()))


def is_fixed(data: bytes) -> bool:
    """12 bytes: MBR disk signature and offset of the partition; 24 bytes: "DMIO:ID:" and the GUID of a GPT partition
    (seen in hives of 7, 1709, 1903). Anything else is the path of a removable or optical device."""
    return len(data) == 12 or (len(data) == 24 and data.startswith(b"DMIO:ID:"))


def system_letter(machine: System) -> str:
    """The letter that Windows runs from; C where the installation does not tell."""
    root = machine.version.system_root
    return root[0].upper() if re.match(r"[A-Za-z]:\\", root) else "C"


RULE = Rule(
    id="mounted-devices",
    touches=r"\MountedDevices",
    does="The target's volumes; each letter of a source's disk volume names the target's volume that received its "
    "data, "
    "as the operator maps them.",
    why="A wrong C: ends in a logon loop; another letter breaks every path on that volume.",
    evidence="Forms of the values: hives of four versions (measured); the logon loop: multibooters.co.uk (read).",
    plan=plan,
)
