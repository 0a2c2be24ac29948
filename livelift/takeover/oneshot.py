"""Booting the stage just once: by GRUB's next_entry, by the firmware's BootNext, or by the boot switch itself.

grubenv    next_entry in GRUB's environment block: the menu reads it, and writes that it is gone before it boots
bootnext   UEFI where GRUB cannot write (LVM, RAID, btrfs): the kernel of the stage, with its image, is on the ESP and
           the firmware starts it once (UEFI specification 3.3; the kernel is an EFI program: CONFIG_EFI_STUB)
switch     else: the old system's menu leads to the stage until the stage, first of all, takes that back. Weaker: a
           machine that hangs before the stage runs comes to the same place again after a power cycle
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from livelift.adapt.linux import cmdline
from livelift.checks.booting import why_grub_cannot_write
from livelift.errors import StateError
from livelift.facts.host import Host
from livelift.model.facts import ServerFacts
from livelift.takeover import switch

GRUBENV: Final = "grubenv"
BOOTNEXT: Final = "bootnext"
SWITCH: Final = "switch"

LABEL: Final = "Livelift take-over"
ESP_DIRECTORY: Final = "EFI/livelift"
ESP_KERNEL: Final = "kernel.efi"
ESP_IMAGE: Final = "image.img"
ADDED: Final = 24 << 20
"""Bytes by which the stage's image may be larger than the target's own initramfs, with some to spare."""
Run = Callable[[tuple[str, ...]], str]


class Shot(NamedTuple):
    """``way``: one of the three. ``why``: why not a better one. ``disk``, ``part``: of the ESP, for BootNext."""

    way: str
    why: str = ""
    disk: str = ""
    part: int = 0


def choose(host: Host, facts: ServerFacts, menu: str) -> Shot:
    """``menu``: the text of the target's grub.cfg. The best way that this machine has."""
    why = why_grub_cannot_write(facts)
    st = host.lstat(facts.boot_loader.environment) if facts.boot_loader.environment else None
    if not why and st is not None and st.st_mode & 0o170000 == 0o120000:
        why = f"{facts.boot_loader.environment} is a link"
    if not why and not switch.clears_next_entry(menu):
        why = f"{facts.boot_loader.config} does not boot next_entry once"
    if not why:
        return Shot(GRUBENV)
    return _bootnext(host, facts, why)


def _bootnext(host: Host, facts: ServerFacts, why: str) -> Shot:
    if facts.firmware.kind != "uefi":
        return Shot(SWITCH, why)
    if facts.firmware.secure_boot is not False:
        return Shot(SWITCH, f"{why}; with Secure Boot the firmware starts no kernel by itself")
    esp = facts.mounted(facts.boot_loader.esp)
    device = facts.device(esp.device) if esp else None
    number = host.line(f"/sys/class/block/{device.name}/partition") if device else ""
    if device is None or not device.parents or not number.isdigit():
        return Shot(SWITCH, f"{why}; the ESP is not mounted or its partition not known")
    if reason := _why_no_stub(host, facts, esp.free if esp else 0):
        return Shot(SWITCH, f"{why}; {reason}")
    if host.try_run("efibootmgr") is None:
        return Shot(SWITCH, f"{why}; efibootmgr is missing or the firmware's variables cannot be read")
    disk = facts.device(device.parents[0])
    return Shot(BOOTNEXT, why, disk.path if disk else f"/dev/{device.parents[0]}", int(number))


def _why_no_stub(host: Host, facts: ServerFacts, room: int) -> str:
    """Why the firmware cannot start the kernel with its image, or an empty string. initrd= of the command line can be
    left out of a kernel since Linux 5.8."""
    config = host.text(f"/boot/config-{facts.running_kernel}")
    off = "# CONFIG_EFI_GENERIC_STUB_INITRD_CMDLINE_LOADER is not set"
    if config and ("CONFIG_EFI_STUB=y" not in config or off in config):
        return "the kernel is not built to be started by the firmware"
    kernel = next((k for k in facts.kernels if k.version == facts.running_kernel), None)
    sizes = [host.lstat(host.real(path)) for path in (kernel.image, kernel.initrd)] if kernel else []
    wanted = sum(st.st_size for st in sizes if st is not None) + ADDED
    return "" if room > wanted else f"the ESP has {room >> 20} MiB free, {wanted >> 20} are needed"


def entries_of(text: str) -> list[str]:
    """Numbers of our entries in what efibootmgr(8) prints."""
    return re.findall(rf"^Boot([0-9A-Fa-f]{{4}})\*?\s+{re.escape(LABEL)}(?:\s|$)", text, re.M)


def arm_bootnext(shot: Shot, command_line: str, run: Run) -> None:
    """One boot by our entry, which is made anew; the boot order is not touched. ProgramError, StateError."""
    disarm_bootnext(run)
    where = ("--disk", shot.disk, "--part", str(shot.part), "--label", LABEL, "--loader", _named(ESP_KERNEL))
    run(("efibootmgr", "--create-only", *where, "--unicode", f"initrd={_named(ESP_IMAGE)} {command_line}"))
    numbers = entries_of(run(("efibootmgr",)))
    if len(numbers) != 1:
        raise StateError(
            "efibootmgr made no boot entry", remedy="look at efibootmgr -v; is the firmware's memory full?"
        )
    run(("efibootmgr", "--bootnext", numbers[0]))


def _named(file: str) -> str:
    """A file of ours on the ESP, as the firmware names it."""
    return "\\" + f"{ESP_DIRECTORY}/{file}".replace("/", "\\")


def is_of_stage(command_line: str) -> bool:
    """Whether the kernel that runs is the stage's, with its image: GRUB itself names the kernel, the firmware's entry
    the image. (`switch.WATCHED` is in the menu of a confirmed system too.)"""
    named = dict(word.partition("=")[::2] for word in cmdline.words(command_line))
    return named.get("BOOT_IMAGE", "").endswith(f"/{switch.KERNEL}") or named.get("initrd") == _named(ESP_IMAGE)


def disarm_bootnext(run: Run) -> None:
    """Our entry is gone, and with it a BootNext that names it."""
    text = run(("efibootmgr",))
    numbers = entries_of(text)
    match = re.search(r"^BootNext: ([0-9A-Fa-f]{4})$", text, re.M)
    if match and match[1] in numbers:
        run(("efibootmgr", "--delete-bootnext"))
    for number in numbers:
        run(("efibootmgr", "--bootnum", number, "--delete-bootnum"))
