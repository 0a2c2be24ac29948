"""The initramfs of the source's kernels: built again, with the drivers that the target needs to reach its root."""

from __future__ import annotations

import re

from livelift.adapt.changes import RunCommand
from livelift.adapt.linux.case import Case
from livelift.adapt.linux.kernels import needed_links
from livelift.adapt.linux.tables import join
from livelift.model.facts import Kernel

STACK_MODULES = {"lvm": "dm_mod", "crypt": "dm_crypt", "mpath": "dm_multipath", "dm": "dm_mod"}
WHY = "so that the source's kernels reach the target's root too"


def plain(name: str) -> str:
    """modprobe(8) takes - and _ for the same."""
    return name.replace("-", "_")


def module_names(dep: str) -> set[str]:
    """Of a modules.dep or modules.builtin: the file's name up to .ko, compressed or not."""
    return {plain(match) for match in re.findall(r"(?:^|/)([^/\s:]+)\.ko(?:\.\w+)?(?=:|$)", dep, re.M)}


def root_modules(case: Case) -> tuple[list[str], set[str]]:
    """(what the target's root and network need, which of these it has as modules of its own kernel), in order."""
    wanted: dict[str, None] = {}
    certain: set[str] = set()
    root = case.target.mounted("/")
    if root is not None:
        wanted[root.fstype] = None
        certain.add(root.fstype)
    for device in case.target.root_stack():
        name = STACK_MODULES.get(device.kind, device.kind if device.kind.startswith("raid") else "")
        if name:
            wanted[name] = None
            certain.add(name)
    for link in needed_links(case):
        if link.module:
            certain.add(plain(link.module))
        if link.module or link.driver:
            wanted[plain(link.module or link.driver)] = None
    return list(wanted), certain


def modules_for(case: Case, kernel: Kernel) -> tuple[list[str], list[str]]:
    """(modules to put into this kernel's initramfs, those that it lacks). What is built in needs no module; a driver
    that is built into the target's kernel may be a module of this one, under its own name."""
    base = f"{case.old.lib}/modules/{kernel.version}"
    present = module_names(case.old.text(f"{base}/modules.dep"))
    builtin = module_names(case.old.text(f"{base}/modules.builtin"))
    wanted, certain = root_modules(case)
    return [m for m in wanted if m in present], [m for m in wanted if m in certain and m not in present | builtin]


def rebuild(case: Case) -> None:
    theirs = {k.version for k in case.target.kernels}
    kernels = [k for k in case.source.kernels if k.image and k.modules and k.version not in theirs]
    modules: dict[str, None] = {}
    for kernel in kernels:
        have, lacking = modules_for(case, kernel)
        modules.update(dict.fromkeys(have))
        if lacking:
            case.draft.warn(
                "driver-missing",
                f"the source's kernel {kernel.version} lacks {', '.join(lacking)}: it will not boot on the target",
                "the target's kernel boots first; remove the other one after the commit",
            )
    tools = set(case.source.packages)
    if case.family == "debian":
        _debian(case, list(modules), kernels)
    elif "dracut" in tools:
        _dracut(case, list(modules), kernels)
    elif case.family == "suse" and "mkinitrd" in tools:
        _mkinitrd(case, list(modules), kernels)
    elif kernels:
        case.draft.warn(
            "initramfs-tool",
            "no tool that is known builds the initramfs of the source (initramfs-tools, dracut, mkinitrd)",
            "only the target's kernel will boot; build the others by hand",
        )


def _debian(case: Case, modules: list[str], kernels: list[Kernel]) -> None:
    path = "etc/initramfs-tools/modules"
    lines = case.old.text(path).splitlines()
    named = {plain(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")}
    missing = [m for m in modules if m not in named]
    if missing:
        case.write("initramfs", path, join([*lines, *missing]), f"drivers of the target's root and network, {WHY}")
    settings = [
        case.old.text(p)
        for p in case.old.readable(("etc/initramfs-tools/initramfs.conf", "etc/initramfs-tools/conf.d/*"))
    ]
    if any(re.search(r"^\s*MODULES=(dep|list)\b", text, re.M) for text in settings):
        case.write(
            "initramfs",
            "etc/initramfs-tools/conf.d/zz-livelift",
            "MODULES=most\n",  # the last file of the directory wins: Debian's installer writes driver-policy
            "the source's initramfs held only the drivers of the hardware that it was built on",
        )
    for kernel in kernels:
        new = () if kernel.initrd else ("-c",)
        _run(
            case,
            kernel,
            ("update-initramfs", *(new or ("-u",)), "-k", kernel.version),
            (f"boot/initrd.img-{kernel.version}", f"var/lib/initramfs-tools/{kernel.version}"),
        )


def _dracut(case: Case, modules: list[str], kernels: list[Kernel]) -> None:
    if modules:
        case.write(
            "initramfs",
            "etc/dracut.conf.d/50-livelift.conf",
            f'add_drivers+=" {" ".join(modules)} "\n',
            f"drivers of the target's root and network, {WHY}",
        )
    for kernel in kernels:
        name = "initrd-{}" if case.family == "suse" else "initramfs-{}.img"
        image = kernel.initrd.lstrip("/") or f"boot/{name.format(kernel.version)}"
        # --no-hostonly: the tool runs before the first boot, so what it finds in /sys may not be all.
        _run(case, kernel, ("dracut", "--force", "--no-hostonly", f"/{image}", kernel.version), (image,))


def _mkinitrd(case: Case, modules: list[str], kernels: list[Kernel]) -> None:
    """SLES 11: the list of drivers is a variable, one call builds all."""
    path = "etc/sysconfig/kernel"
    text = case.old.text(path)
    match = re.search(r'^INITRD_MODULES="([^"]*)"', text, re.M)
    if match:
        union = dict.fromkeys([*match[1].split(), *modules])
        text = text[: match.start()] + f'INITRD_MODULES="{" ".join(union)}"' + text[match.end() :]
        case.write("initramfs", path, text, f"drivers of the target's root and network, {WHY}")
    for kernel in kernels:
        image = kernel.initrd.lstrip("/") or f"boot/initrd-{kernel.version}"
        arguments = ("mkinitrd", "-k", f"vmlinuz-{kernel.version}", "-i", image.removeprefix("boot/"))
        _run(case, kernel, arguments, (image,))


def _run(case: Case, kernel: Kernel, arguments: tuple[str, ...], writes: tuple[str, ...]) -> None:
    case.draft.edit(
        f"initramfs/build/{kernel.version}",
        f"the initramfs was built for the source's hardware; again, {WHY}",
        RunCommand(arguments, writes),
        inputs=("target facts: root_links, interfaces", f"source:boot/vmlinuz-{kernel.version}"),
    )
