"""Menus that name the kernels of both systems: how GRUB sees their files, and what each dialect looks like."""

from __future__ import annotations

import re
from typing import NamedTuple

from livelift.adapt.linux import cmdline
from livelift.adapt.linux.case import Case
from livelift.model.facts import Kernel, ServerFacts


class Entry(NamedTuple):
    """``image`` and ``initrd`` as GRUB sees them."""

    title: str
    version: str
    image: str
    initrd: str


def boot_prefix(target: ServerFacts) -> str:
    """How GRUB names the directory of the target's kernels: it knows nothing of mounts, and sees a btrfs subvolume as a
    directory. The running kernel was told (BOOT_IMAGE), with the device in parentheses on some systems."""
    told = cmdline.value(target.command_line, "BOOT_IMAGE")
    if told:
        return re.sub(r"^\([^)]*\)", "", told).rpartition("/")[0]
    return "" if target.mounted("/boot") else "/boot"


def kernels_in_order(case: Case) -> list[Kernel]:
    """The target's running one, its others, the source's; of the last two the newest first."""
    theirs = [k for k in case.target.kernels if k.image and k.initrd and k.modules]
    versions = {k.version for k in theirs}
    ours = [k for k in case.source.kernels if k.image and k.version not in versions]
    theirs.sort(key=lambda k: (k.version == case.target.running_kernel, version_key(k.version)), reverse=True)
    return theirs + sorted(ours, key=lambda k: version_key(k.version), reverse=True)


def version_key(version: str) -> list[tuple[int, int, str]]:
    """Numbers by value, words by letters."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.findall(r"\d+|[^\d.\-_]+", version)]


def entries(case: Case) -> list[Entry]:
    prefix = boot_prefix(case.target)
    found = []
    for kernel in kernels_in_order(case):
        image = kernel.image.removeprefix("/boot/")
        initrd = kernel.initrd.removeprefix("/boot/") or f"initrd.img-{kernel.version}"
        name = case.source.release.name or "Linux"
        found.append(Entry(f"{name}, {kernel.version}", kernel.version, f"{prefix}/{image}", f"{prefix}/{initrd}"))
    return found


def command_line(case: Case) -> str:
    return cmdline.merge(case.source.command_line, case.target.command_line)


def grub_modules(target: ServerFacts) -> list[str]:
    """What GRUB needs to read the target's /boot: partition tables, stack, file system."""
    holder = target.mounted("/boot") or target.mounted("/")
    if holder is None:
        return []
    found = {"ext2": "ext2", "ext3": "ext2", "ext4": "ext2", "xfs": "xfs", "btrfs": "btrfs", "f2fs": "f2fs"}
    modules = []
    for device in reversed(target.stack(holder.device)):
        if device.table:
            modules.append("part_gpt" if device.table == "gpt" else "part_msdos")
        if device.kind.startswith("raid"):
            modules += ["diskfilter", "mdraid09", "mdraid1x", f"{device.kind}rec" if device.kind > "raid3" else ""]
        if device.kind == "lvm":
            modules.append("lvm")
        if device.kind == "crypt":
            modules += ["cryptodisk", "luks"]
    return list(dict.fromkeys([m for m in modules if m] + [found.get(holder.fstype, holder.fstype)]))


def render_menu(listed: list[Entry], line: str, uuid: str, modules: list[str], terminal: list[str]) -> str:
    """A grub.cfg. next_entry is what grub-reboot sets for one boot, saved_entry what grub-set-default keeps."""
    lines = [
        "# Written by livelift; the next run of update-grub or grub2-mkconfig replaces it.",
        "set timeout=5",
        "if [ -s $prefix/grubenv ]; then",
        "  load_env",
        "fi",
        'if [ "${next_entry}" ]; then',
        '  set default="${next_entry}"',
        "  set next_entry=",
        "  save_env next_entry",
        'elif [ "${saved_entry}" ]; then',
        '  set default="${saved_entry}"',
        "else",
        '  set default="0"',
        "fi",
        *terminal,
    ]
    for number, entry in enumerate(listed):
        lines += [
            f"menuentry '{_quote(entry.title)}' --id 'livelift-{number}-{entry.version}' {{",
            "  insmod gzio",
            *(f"  insmod {module}" for module in modules),
            f"  search --no-floppy --fs-uuid --set=root {uuid}",
            f"  linux {entry.image} {line}",
            f"  initrd {entry.initrd}",
            "}",
        ]
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    return text.replace("'", "")


def render_legacy(listed: list[Entry], line: str, device: str, head: list[str]) -> str:
    """A menu of GRUB 0.97. ``device``: of /boot, as (hd0,0). ``head``: what stands above the first title."""
    lines = [*head, "default=0"]
    for entry in listed:
        lines += [f"title {entry.title}", f"\troot {device}", f"\tkernel {entry.image} {line}"]
        lines += [f"\tinitrd {entry.initrd}"]
    return "\n".join(lines) + "\n"
