"""Preflight rules for a whole server: can the target boot an entry just once, and will it be reached afterwards?"""

from __future__ import annotations

from collections.abc import Iterator

from livelift.checks.findings import Finding, Level
from livelift.model.facts import ServerFacts


def check_boot_loader(source: ServerFacts, target: ServerFacts) -> Iterator[Finding]:
    loader = target.boot_loader
    if not loader.kind:
        yield Finding(
            "boot-loader-unknown",
            Level.INHIBITOR,
            "the target has no boot loader that is known (GRUB 2, GRUB legacy, systemd-boot)",
            "install GRUB 2 on the target",
        )
    elif reason := why_no_one_shot(target):
        yield Finding(
            "one-shot",
            Level.WARNING,
            f"the target cannot boot an entry just once: {reason}",
            "the take-over then counts its attempts itself; a hang before the initramfs needs a power cycle",
        )
    elif loader.kind == "grub2" and target.firmware.kind == "bios" and not loader.saved_default:
        yield Finding(
            "grub-default-saved",
            Level.NOTE,
            "GRUB_DEFAULT is not saved on the target; it is set for the one-shot boot and put back",
        )
    if target.firmware.kind == "bios" and loader.kind.startswith("grub") and not loader.stage1:
        yield Finding(
            "grub-not-in-mbr",
            Level.WARNING,
            "no disk of the target has GRUB in its first sector: what starts it is unknown",
            "say what boots this machine (PXE, a hypervisor's kernel), or run grub-install",
        )
    if target.firmware.kind != source.firmware.kind:
        yield Finding(
            "firmware-differs",
            Level.NOTE,
            f"the source starts by {source.firmware.kind.upper()}, the target by {target.firmware.kind.upper()}:"
            " the target's GRUB is kept and its packages are brought along",
        )
    if target.firmware.secure_boot:
        level = Level.NOTE if "shim" in source.packages else Level.WARNING
        yield Finding(
            "secure-boot",
            level,
            "the target starts with Secure Boot: only signed kernels and modules load",
            "" if level is Level.NOTE else "install shim-signed on the source; modules built there will not load",
        )


def why_no_one_shot(target: ServerFacts) -> str:
    """Why the next boot alone cannot be chosen, or an empty string. The firmware's BootNext has no limit of GRUB's."""
    loader = target.boot_loader
    if target.firmware.kind == "uefi" and loader.efi:
        return ""
    if loader.kind == "systemd-boot":
        return ""
    if loader.kind == "grub-legacy":
        return "GRUB legacy's savedefault --once depends on the build"
    return why_grub_cannot_write(target)


def why_grub_cannot_write(target: ServerFacts) -> str:
    """Why GRUB 2 cannot change its environment block, or an empty string: it can do so only in plain blocks of a disk
    (grub manual, "Environment block"), not on LVM, RAID, LUKS or btrfs."""
    loader = target.boot_loader
    if not loader.environment:
        return "GRUB has no environment block"
    holder = target.holder(loader.environment)
    if holder is None:
        return f"nothing is known of the file system of {loader.environment}"
    if holder.fstype in ("btrfs", "zfs", "f2fs"):
        return f"{loader.environment} lies on {holder.fstype}, where GRUB cannot write"
    for device in target.stack(holder.device):
        if device.kind in ("lvm", "crypt", "dm") or device.kind.startswith("raid"):
            return f"{loader.environment} lies on {device.kind} {device.name}, where GRUB cannot write"
    return ""


def check_drivers(source: ServerFacts, target: ServerFacts) -> Iterator[Finding]:
    if not any(link.driver for link in target.root_links):
        yield Finding(
            "root-chain-unknown",
            Level.WARNING,
            "nothing is known of the drivers between the target's root and its bus",
            "run livelift facts as root on the target",
        )


def check_network(source: ServerFacts, target: ServerFacts) -> Iterator[Finding]:
    for side, facts in (("source", source), ("target", target)):
        if not facts.network_stacks:
            yield Finding(
                "network-unknown",
                Level.WARNING,
                f"nothing that is known configures the network of the {side}",
                "give a network map file, and check it with livelift plan",
            )
    carrying = [nic for nic in source.interfaces if nic.kind == "physical" and (nic.addresses or nic.master)]
    present = [nic for nic in target.interfaces if nic.kind == "physical"]
    if len(carrying) > len(present):
        names = ", ".join(nic.name for nic in carrying)
        yield Finding(
            "fewer-nics",
            Level.WARNING,
            f"the source uses {len(carrying)} network cards ({names}), the target has {len(present)}",
            "say in a network map file which address goes where",
        )
    for nic in source.interfaces:
        if nic.dynamic:
            yield Finding(
                "dynamic-address",
                Level.NOTE,
                f"{nic.name} of the source has its address from DHCP or router advertisements:"
                " the target's card gets another one unless the server is told",
            )
        if nic.kind in ("bond", "bridge", "vlan"):
            yield Finding(
                "layered-network",
                Level.WARNING,
                f"{nic.name} of the source is a {nic.kind}",
                "say in a network map file what it becomes, or keep the target's network (keep-target)",
            )
