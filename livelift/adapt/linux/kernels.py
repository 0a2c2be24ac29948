"""Kernels, modules and firmware: the target's are kept beside the source's, for they are proven on that hardware."""

from __future__ import annotations

from livelift.adapt.changes import CopyTree, MakeLink, RenameFile
from livelift.adapt.linux.case import Case
from livelift.adapt.linux.trees import Item
from livelift.model.facts import Link

WHY = "the target's kernel is known to run on this hardware; it boots first"


def keep_target_kernels(case: Case) -> None:
    """Image, map, configuration and initramfs of each kernel of the target, and its modules."""
    for kernel in case.target.kernels:
        if not (kernel.image and kernel.initrd and kernel.modules):
            continue
        version = kernel.version
        for path in (
            f"boot/vmlinuz-{version}",
            f"boot/System.map-{version}",
            f"boot/config-{version}",
            f"boot/symvers-{version}.gz",
            f"boot/.vmlinuz-{version}.hmac",
            kernel.initrd.lstrip("/"),
        ):
            if case.new.has(path):
                case.copy("kernel", path, WHY)
        origin, path = f"{case.new.lib}/modules/{version}", f"{case.old.lib}/modules/{version}"
        if not case.new.has(origin):
            case.draft.inhibit(
                "target-modules", f"/{origin} of the target was not found", "name the target's root by --target-root"
            )
        elif not case.old.has(path):
            case.copy_tree("kernel", path, "the modules of the target's kernel", origin)
        if version not in {k.version for k in case.source.kernels}:
            case.draft.note(
                "kernel-unowned",
                f"the package manager of the moved system does not know the target's kernel {version}",
                "install its package after the commit, so that it gets updates",
            )
    if not any(k.image and k.initrd and k.modules for k in case.target.kernels):
        case.draft.inhibit(
            "target-kernel",
            "the target has no kernel with image, initramfs and modules",
            "reinstall its kernel package",
        )


def unite_firmware(case: Case) -> None:
    """Files of lib/firmware that only the target has; a directory that the source lacks is taken whole."""
    ours, theirs = f"{case.old.lib}/firmware", f"{case.new.lib}/firmware"
    have = {path.removeprefix(ours): item for path, item in case.old.below(ours).items()}
    found = {path.removeprefix(theirs): item for path, item in case.new.below(theirs).items()}
    whole: list[str] = []
    for path in sorted(found):
        if any(path.startswith(f"{directory}/") for directory in whole) or path in have:
            continue
        item = found[path]
        if item.kind == "dir":
            whole.append(path)
            files, size = _sum(found, path)
            change: CopyTree | MakeLink = CopyTree(ours + path, theirs + path, files, size)
        elif item.kind == "link":
            change = MakeLink(ours + path, item.text)
        else:
            case.copy("firmware", ours + path, "firmware that only the target has", theirs + path)
            continue
        case.draft.edit(
            f"firmware/{ours}{path}", "firmware that only the target has", change, inputs=(f"target:{theirs}{path}",)
        )


def _sum(found: dict[str, Item], directory: str) -> tuple[int, int]:
    files = [item for path, item in found.items() if path.startswith(f"{directory}/") and item.kind != "dir"]
    return len(files), sum(item.size for item in files)


def keep_modprobe(case: Case) -> None:
    """A module of the target's root or network that the source's configuration forbids would not be loaded."""
    needed = {link.module.replace("-", "_") for link in needed_links(case)} - {""}
    for path in case.old.readable(("etc/modprobe.conf", "etc/modprobe.d/*.conf")):
        lines = case.old.text(path).splitlines()
        changed = [f"# livelift: the hardware needs it: {line}" if _forbids(line, needed) else line for line in lines]
        if changed != lines:
            case.write(
                "modprobe", path, "\n".join(changed) + "\n", "it forbids a driver that the target's hardware needs"
            )


def _forbids(line: str, needed: set[str]) -> bool:
    fields = line.split()
    if len(fields) < 2 or fields[1].replace("-", "_") not in needed:
        return False
    return fields[0] == "blacklist" or (fields[0] == "install" and fields[2:3] in (["/bin/true"], ["/bin/false"]))


def needed_links(case: Case) -> list[Link]:
    """Of the root's disks and of every physical card of the target."""
    cards = [nic for nic in case.target.interfaces if nic.kind == "physical"]
    return [*case.target.root_links, *(link for nic in cards for link in nic.links)]


def set_aside(case: Case, rule: str, path: str, reason: str) -> None:
    """A directory of the source that the target's takes the place of."""
    case.draft.edit(
        f"{rule}/aside/{path}", reason, RenameFile(path, f"{path}.source"), inputs=(f"source:{path}",), before=(path,)
    )
