"""What the first boot is: not a setup, from the target's system partition, with its errors left on the screen."""

from __future__ import annotations

from livelift.adapt.changes import DeleteFile
from livelift.adapt.windows.bench import Bench, Rule
from livelift.adapt.windows.system import SYSTEM, value_of
from livelift.registry.tree import Key
from livelift.registry.values import number_of

SETUP = "Setup"


def plan(bench: Bench) -> None:
    ours = bench.source.hives[SYSTEM].find(SETUP) or Key("")
    theirs = bench.target.hives[SYSTEM].find(SETUP) or Key("")
    if number_of(ours.value("SystemSetupInProgress"), 0) or number_of(ours.value("OOBEInProgress"), 0):
        bench.draft.inhibit(
            "setup-unfinished",
            "the source is in the middle of a setup or upgrade (Setup\\SystemSetupInProgress or OOBEInProgress)",
            "let it finish, reboot the source and begin again",
        )
    for name in ("SystemPartition", "OsLoaderPath"):
        text = value_of(theirs, name)
        if text:
            reason = "where the target's boot files are"
            bench.set_text(f"setup/{name.lower()}", reason, SETUP, name, text)
    if not value_of(theirs, "SystemPartition"):
        bench.draft.warn("no-system-partition", "the target's Setup has no SystemPartition", "bcdboot sets it anew")
    reason = "an installed system boots, no setup goes on"
    bench.set_number("setup/in-progress", reason, SETUP, "SystemSetupInProgress", 0)
    bench.set_number("setup/type", reason, SETUP, "SetupType", 0)
    bench.set_text("setup/command", reason, SETUP, "CmdLine", "")
    for name in ("SystemBootDevice", "FirmwareBootDevice"):
        text = bench.target.control_value("Control", name)
        if text:
            bench.set_text(f"setup/{name.lower()}", "the target's boot device", f"{bench.set}\\Control", name, text)
    _first_boot(bench)


def _first_boot(bench: Bench) -> None:
    crash = f"{bench.set}\\Control\\CrashControl"
    bench.set_number(
        "setup/auto-reboot",
        "a bug check of the first boot stays on the screen; set it back when the server runs",
        crash,
        "AutoReboot",
        0,
    )
    if bench.generation.driver_database:
        bench.set_number(
            "setup/fast-startup",
            "a fast startup would resume the kernel of the old hardware",
            f"{bench.set}\\Control\\Session Manager\\Power",
            "HiberbootEnabled",
            0,
        )
    if bench.source.files.get("hiberfil.sys") is not None:
        bench.edit(
            "setup/hiberfil", "the memory image of the old hardware must not be resumed", DeleteFile("hiberfil.sys")
        )


RULE = Rule(
    id="setup",
    touches=r"\Setup; CSn\Control: SystemBootDevice, FirmwareBootDevice; CrashControl; Session Manager\Power; "
    "hiberfil.sys",
    does="SystemPartition, OsLoaderPath and the boot devices from the target; setup flags 0, CmdLine empty; AutoReboot "
    "and fast startup off.",
    why="A setup flag starts the setup program instead of the logon; an automatic reboot hides the bug check that says "
    "what is wrong.",
    evidence="Setup is in the hives of all versions (measured); virt-v2v turns AutoReboot off (read); the rest is "
    "general knowledge.",
    plan=plan,
)
