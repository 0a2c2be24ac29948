"""Which Windows generation both machines run, and whether the source's system can be booted with the target's drivers.

The build number decides; what the SYSTEM hive holds must agree with it. Windows 7 and 2008 R2 have
Control\\CriticalDeviceDatabase and no DriverDatabase; 8.x and 2012 (R2) have DriverDatabase, StartOverride and
HardwareConfig; 10, 2016 and 2019 have Control\\NetworkSetup2 besides (seen in hives of 7, 8.1, 10 1709 and 10 1903).
2022, 2025 and 11 are expected to be like 10 2004: no hive of them was at hand.
"""

from __future__ import annotations

from enum import Enum

from livelift.adapt.plan import Draft
from livelift.adapt.windows.system import SYSTEM, System, Version
from livelift.registry.tree import fold


class Generation(Enum):
    SEVEN = "7 / 2008 R2"
    EIGHT = "8, 8.1 / 2012, 2012 R2"
    TEN = "10 / 2016 / 2019"
    ELEVEN = "11 / 2022 / 2025"

    @property
    def driver_database(self) -> bool:
        """\\DriverDatabase and the DRIVERS hive instead of Control\\CriticalDeviceDatabase."""
        return self is not Generation.SEVEN

    @property
    def network_setup(self) -> bool:
        """Control\\NetworkSetup2."""
        return self in (Generation.TEN, Generation.ELEVEN)


def of_build(build: int) -> Generation | None:
    """7600: 7 RTM; 9200: 8; 10240: 10 RTM; 14393: 2016; 17763: 2019; 20348: 2022; 22000: 11; 26100: 2025 (release notes
    of Windows). None for older ones and for what lies between 7 and 8."""
    if 7600 <= build <= 7601:
        return Generation.SEVEN
    if 9200 <= build <= 9600:
        return Generation.EIGHT
    if 10240 <= build < 20348:
        return Generation.TEN
    if build >= 20348:
        return Generation.ELEVEN
    return None


def decide(source: System, target: System, draft: Draft) -> Generation | None:
    """The generation of the source, whose kernel boots. None where it cannot be told; the reasons are inhibitors of the
    draft."""
    found = [_of(name, machine, draft) for name, machine in (("source", source), ("target", target))]
    ours, theirs = found
    if ours is None or theirs is None:
        return None
    _compare(source.version, target.version, draft)
    if ours is not theirs:
        draft.inhibit(
            "generation-differs",
            f"the source runs Windows {ours.value} and the target Windows {theirs.value}: the target's drivers and "
            "keys "
            ""
            "are not "
            "those of the source's kernel",
            "install the source's generation on the target, or bring the source up to it",
        )
        return None
    return ours


def _of(name: str, machine: System, draft: Draft) -> Generation | None:
    if not machine.current:
        draft.inhibit(
            f"no-control-set-{name}",
            f"the {name}'s SYSTEM hive has no control set that Select\\Current names",
            "check the hive: livelift hive check",
        )
        return None
    for hive_name, hive in machine.hives.items():
        if hive.dirty:
            draft.inhibit(
                f"dirty-hive-{name}",
                f"the {name}'s hive {hive_name} was not closed cleanly and no log made that good: what its last writes "
                "were is not known",
                "shut the machine down cleanly, or give the hive's LOG1 and LOG2 beside it",
            )
        for note in hive.notes:
            draft.warn(f"hive-logs-{name}", f"the {name}'s hive {hive_name}: {note}", "look at it: livelift hive check")
    build = machine.version.build
    if not build:
        draft.inhibit(
            f"build-unknown-{name}",
            f"the build of the {name}'s Windows is not known (SOFTWARE\\Microsoft\\Windows "
            "NT\\CurrentVersion\\CurrentBuildNumber)",
            "give its SOFTWARE hive as well",
        )
        return None
    generation = of_build(build)
    if generation is None:
        draft.inhibit(
            f"unsupported-{name}", f"the {name} runs build {build}", "Windows 7 or 2008 R2 and later are supported"
        )
        return None
    if wrong := _contradictions(machine, generation):
        draft.inhibit(
            f"generation-contradicts-{name}",
            f"the {name}'s build {build} is Windows {generation.value}, but its SYSTEM hive has {wrong}",
            "check that both hives are of the same machine and the same time",
        )
        return None
    return generation


def _contradictions(machine: System, generation: Generation) -> str:
    """What the hive has that the generation has not, or the reverse."""
    expected = {
        "Control\\CriticalDeviceDatabase": not generation.driver_database,
        "\\DriverDatabase": generation.driver_database,
        "Control\\NetworkSetup2": generation.network_setup,
    }
    present = {
        "Control\\CriticalDeviceDatabase": machine.control("Control\\CriticalDeviceDatabase") is not None,
        "\\DriverDatabase": machine.hives[SYSTEM].find("DriverDatabase") is not None,
        "Control\\NetworkSetup2": machine.control("Control\\NetworkSetup2") is not None,
    }
    return ", ".join(f"{'' if present[key] else 'no '}{key}" for key in expected if present[key] != expected[key])


def _compare(source: Version, target: Version, draft: Draft) -> None:
    if source.build != target.build:
        draft.inhibit(
            "build-differs",
            f"the source runs build {source.build}, the target {target.build}: in-box drivers are made for one build",
            "bring both to the same build",
        )
    elif source.ubr != target.ubr:
        draft.warn(
            "patch-level-differs",
            f"build {source.build}: the source is at .{source.ubr}, the target at .{target.ubr}; in-box drivers stay "
            "the source's",
            "install the same updates on both to be sure",
        )
    for field, unknown_is_fine in (("architecture", False), ("system_root", True)):
        ours, theirs = getattr(source, field), getattr(target, field)
        if ours and theirs and fold(ours) == fold(theirs):
            continue
        if unknown_is_fine and not (ours and theirs):
            continue
        draft.inhibit(
            f"{field.replace('_', '-')}-differs",
            f"{field.replace('_', ' ')}: {ours or 'unknown'} on the source, {theirs or 'unknown'} on the target",
            "the target must be installed like the source",
        )
    for field in ("edition", "kind", "language"):
        ours, theirs = getattr(source, field), getattr(target, field)
        if fold(ours) != fold(theirs):
            draft.warn(
                f"{field}-differs",
                f"{field}: {ours or 'unknown'} on the source, {theirs or 'unknown'} on the target",
                "in-box drivers of one may be missing from the other: look at the notes on files",
            )
