"""The machine's identity as firmware tells it (HardwareConfig, from Windows 8 on): the target's."""

from __future__ import annotations

from livelift.adapt.windows.bench import Bench, Rule
from livelift.registry.tree import Key
from livelift.registry.values import number_of

REASON = "the boot compares it with the firmware it finds; another machine's makes it reinstall every device"


def plan(bench: Bench) -> None:
    if bench.generation.driver_database and not bench.graft(
        "hardware-config/tree", REASON, "HardwareConfig", "HardwareConfig"
    ):
        bench.draft.warn("no-hardware-config", "the target has no HardwareConfig: it will be made at the first boot")
        bench.remove_key("hardware-config/tree", REASON, "HardwareConfig")
    flags = (bench.target.control("Control") or Key("")).value("BootDriverFlags")
    if flags is not None and number_of(flags) >= 0:
        reason = "which buses the boot drivers are for, as the target's firmware needs it"
        bench.set_number(
            "hardware-config/boot-driver-flags", reason, f"{bench.set}\\Control", "BootDriverFlags", number_of(flags)
        )


RULE = Rule(
    id="hardware-config",
    touches=r"\HardwareConfig; CSn\Control: BootDriverFlags",
    does="The target's.",
    why="LastConfig is the SMBIOS id of the machine that ran last; BootDriverFlags tells which boot drivers to load "
    "for "
    "the boot device.",
    evidence="In 8.1 and later hives, absent from 7 (measured); the rule itself is general knowledge.",
    plan=plan,
)
