"""What a boot menu will load, read back from its files: GRUB 2, Boot Loader Specification, GRUB legacy. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple


class BootEntry(NamedTuple):
    """``image`` and ``initrd`` as the boot loader names them; ``initrd`` may be several, joined by spaces."""

    title: str
    image: str
    initrd: str
    options: str


def grub_entries(text: str) -> list[BootEntry]:
    """The menuentry blocks of a grub.cfg, in their order, also those of submenus. Entries that load no kernel (firmware
    set-up, chainloader) are left out; variables are not expanded."""
    found = []
    for block in re.split(r"^\s*menuentry\s", text, flags=re.M)[1:]:
        title = re.match(r"'([^']*)'|\"([^\"]*)\"|(\S+)", block)
        linux = re.search(r"^\s*linux(?:16|efi)?\s+(\S+)[ \t]*(.*)$", block, re.M)
        initrd = re.search(r"^\s*initrd(?:16|efi)?\s+(.+)$", block, re.M)
        if linux:
            name = next((group for group in title.groups() if group), "") if title else ""
            found.append(BootEntry(name, linux[1], initrd[1].strip() if initrd else "", linux[2].strip()))
    return found


def bls_entry(text: str) -> BootEntry:
    """One file of loader/entries. Keys may come twice: initrd lines add up, options too."""
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, value = line.strip().partition(" ")
        values.setdefault(key, []).append(value.strip())
    return BootEntry(*(" ".join(values.get(key, [])) for key in ("title", "linux", "initrd", "options")))


def legacy_entries(text: str) -> list[BootEntry]:
    """menu.lst and grub.conf of GRUB 0.97."""
    found = []
    for block in re.split(r"^title\s+", text, flags=re.M)[1:]:
        kernel = re.search(r"^\s*kernel\s+(\S+)[ \t]*(.*)$", block, re.M)
        initrd = re.search(r"^\s*initrd\s+(\S+)", block, re.M)
        if kernel:
            title = block.partition("\n")[0].strip()
            found.append(BootEntry(title, kernel[1], initrd[1] if initrd else "", kernel[2].strip()))
    return found


def file_of(path: str, prefix: str) -> str:
    """Relative to the system's root, for a path as GRUB sees it. ``prefix``: how GRUB names /boot; a device in
    parentheses in front is taken off."""
    plain = re.sub(r"^\([^)]*\)", "", path)
    return "boot/" + plain.removeprefix(prefix).lstrip("/")
