"""The kernel command line: where the root is and what the console is come from the target, the rest not."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final

ROOT: Final = ("root", "rootfstype", "rootflags", "rootdelay", "rootwait", "ro", "rw")
"""GRUB's scripts write these themselves, so they do not belong into GRUB_CMDLINE_LINUX."""

HARDWARE: Final = (
    *ROOT, "resume", "resume_offset", "noresume", "rd.lvm", "rd.lvm.*", "rd.luks", "rd.luks.*", "luks.*", "rd.md",
    "rd.md.*", "rd.dm", "rd.multipath*", "rd_LVM_*", "rd_LUKS_*", "rd_MD_*", "rd_NO_*", "rd_DM_*", "rd.zfcp*",
    "rd.dasd*", "rd.iscsi*", "rd.driver.*", "rd.retry", "cryptdevice", "cryptopts", "netroot", "nfsroot", "ip",
    "ifname", "bootdev", "console", "earlyprintk*", "earlycon", "kgdboc", "net.ifnames", "biosdevname", "video",
    "nomodeset", "acpi*", "pci", "pcie_*", "iommu", "iommu.*", "intel_iommu", "amd_iommu", "noapic", "nolapic",
    "nox2apic", "apic", "reboot", "mem", "memmap", "clocksource", "tsc", "hpet", "idle", "processor.*", "intel_idle.*",
    "libata.*", "nvme_core.*", "scsi_mod.*", "xen_*", "hv_*", "nvme.*", "usbcore.*", "swiotlb", "fbcon*", "vga",
)  # fmt: skip
"""Names (shell patterns) that tell the kernel about the machine. kernel-parameters.txt, dracut.cmdline(7)."""

DROPPED: Final = ("BOOT_IMAGE", "initrd", "rd.break", "init", "single", "1", "emergency", "rescue")
"""Written by the boot loader, or by an operator for a single boot."""


def words(line: str) -> list[str]:
    """Split at spaces outside of double quotes, as the kernel does (lib/cmdline.c, next_arg)."""
    found, word, quoted = [], "", False
    for character in line:
        if character == '"':
            quoted = not quoted
        if character.isspace() and not quoted:
            if word:
                found.append(word)
            word = ""
        else:
            word += character
    return [*found, word] if word else found


def name_of(word: str) -> str:
    return word.partition("=")[0].strip('"')


def is_hardware(word: str) -> bool:
    return any(fnmatchcase(name_of(word), pattern) for pattern in HARDWARE)


def is_dropped(word: str) -> bool:
    return name_of(word) in DROPPED


def merge(source: str, target: str) -> str:
    """A whole command line: the target's words about the machine first, then the source's others; each once."""
    chosen = [w for w in words(target) if is_hardware(w) and not is_dropped(w)]
    chosen += [w for w in words(source) if not is_hardware(w) and not is_dropped(w)]
    return " ".join(dict.fromkeys(chosen))


def merge_variable(source: str, target_line: str) -> str:
    """The value of GRUB_CMDLINE_LINUX: as `merge`, without what GRUB's scripts add by themselves."""
    chosen = [w for w in words(source) if not is_hardware(w) and not is_dropped(w)]
    chosen += [w for w in words(target_line) if is_hardware(w) and not is_dropped(w) and name_of(w) not in ROOT]
    return " ".join(dict.fromkeys(chosen))


def without_hardware(source: str) -> str:
    """The value of GRUB_CMDLINE_LINUX_DEFAULT: only what is not about the machine."""
    return " ".join(w for w in words(source) if not is_hardware(w) and not is_dropped(w))


def value(line: str, name: str) -> str:
    """Of the last word of this name; empty if there is none."""
    found = [w.partition("=")[2].strip('"') for w in words(line) if name_of(w) == name]
    return found[-1] if found else ""
