"""GRUB's packages and their answers: the next upgrade must find the target's disk and the platform of its firmware."""

from __future__ import annotations

from livelift.adapt.changes import WriteFile
from livelift.adapt.linux.case import Case
from livelift.adapt.linux.trees import encode

DATABASE = "var/cache/debconf/config.dat"
PLATFORMS = {"grub-pc": "i386-pc", "grub-efi-amd64": "x86_64-efi", "grub-efi-arm64": "arm64-efi"}


def grub_platform(case: Case) -> None:
    """The moved system reinstalls GRUB after its first boot; for that it needs the target's platform."""
    for package, platform in PLATFORMS.items():
        path = f"usr/lib/grub/{platform}"
        if package in case.target.packages and package not in case.source.packages and case.new.has(path):
            if not case.old.has(path):
                case.copy_tree("grub", path, f"GRUB's modules for {platform}, which the source does not have")
            case.draft.warn(
                "grub-package",
                f"the package manager of the moved system does not know {package}",
                f"install {package} (or grub2-efi-x64, shim) after the commit, so that GRUB gets updates",
            )


def debconf(case: Case) -> None:
    """grub-pc's postinst runs grub-install on the disks that this answer names."""
    disks = case.target.boot_loader.stage1
    if case.family != "debian" or case.target.firmware.kind != "bios" or not disks:
        return
    if "grub-pc" not in {*case.source.packages, *case.target.packages} or not case.old.has(DATABASE):
        return
    old = case.old.text(DATABASE)
    new = answer(old, "grub-pc/install_devices", ", ".join(disks), "grub-pc")
    new = answer(new, "grub-pc/install_devices_empty", "false", "grub-pc")
    if new != old:
        case.draft.edit(
            f"grub/{DATABASE}",
            "the next upgrade of grub-pc would install to a disk of the source",
            WriteFile(DATABASE, encode(new)),
            inputs=(f"source:{DATABASE}", "target facts: boot_loader"),
            before=case.old.lines(DATABASE),
        )


def answer(database: str, name: str, value: str, owner: str) -> str:
    """debconf's config.dat: stanzas of "Field: value" lines with an empty line after each (debconf-devel(7))."""
    stanzas = [stanza for stanza in database.split("\n\n") if stanza.strip()]
    wanted = f"Name: {name}\nTemplate: {name}\nValue: {value}\nOwners: {owner}\nFlags: seen"
    for number, stanza in enumerate(stanzas):
        if f"Name: {name}" in stanza.split("\n"):
            kept = [line for line in stanza.strip("\n").split("\n") if not line.startswith(("Value:", "Flags:"))]
            place = next((i for i, line in enumerate(kept) if line.startswith("Owners:")), len(kept))
            stanzas[number] = "\n".join([*kept[:place], f"Value: {value}", *kept[place:], "Flags: seen"])
            break
    else:
        stanzas.append(wanted)
    return "\n\n".join(stanza.strip("\n") for stanza in stanzas) + "\n\n"
