"""Looks into a staged system before anything is swapped: would it start, and reach its root, on this machine?"""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Callable, Iterator

from livelift.adapt.linux import cmdline
from livelift.adapt.linux.initramfs import STACK_MODULES, module_names, plain
from livelift.adapt.linux.menus import boot_prefix
from livelift.adapt.linux.tables import fstab_entries
from livelift.checks.findings import Finding, Level
from livelift.errors import CommandError, CorruptError
from livelift.facts.host import Host
from livelift.model.facts import ServerFacts
from livelift.platform.linux.inside import run_inside
from livelift.takeover import cpio
from livelift.takeover.boot_entries import BootEntry, bls_entry, file_of, grub_entries, legacy_entries
from livelift.takeover.elf import interpreter
from livelift.takeover.switch import ADAPTED, is_own_menu

INITS = ("/sbin/init", "/usr/sbin/init", "/etc/init", "/bin/init")
"""What an initramfs tries: init= of the command line, then these (init/main.c has a similar list)."""
FORGIVING = ("nofail", "noauto", "x-systemd.automount")


def probe(root: str, target: ServerFacts, run: Callable[..., str] = run_inside) -> list[Finding]:
    """``root``: the staged tree with its other file systems mounted in it. ``target``: facts of this machine, of now.

    Changes nothing. A finding at the level INHIBITOR means: do not swap.
    """
    host = Host(root)
    try:
        return [
            *check_init(host),
            *check_loader(host, root, run),
            *check_fstab(host, target),
            *check_boot(host, target),
        ]
    finally:
        host.close()


def _stop(id: str, diagnosis: str, remedy: str) -> Finding:
    return Finding(id, Level.INHIBITOR, diagnosis, remedy)


def check_init(host: Host) -> Iterator[Finding]:
    if not any(stat.S_ISREG(mode) and mode & 0o111 for mode in map(host.mode, INITS)):
        yield _stop("probe-init", f"none of {', '.join(INITS)} is a program", "is the copy complete? verify it")


def check_loader(host: Host, root: str, run: Callable[..., str]) -> Iterator[Finding]:
    """/bin/true under its own loader: what a copy that bends absolute symlinks fails at."""
    try:
        loader = interpreter(host.bytes("/bin/true", 1 << 16))
    except (ValueError, struct.error):
        yield _stop("probe-true", "/bin/true is missing or no program", "is the copy complete? verify it")
        return
    if loader and not stat.S_ISREG(host.mode(loader)):
        yield _stop(
            "probe-loader", f"the dynamic loader {loader} leads to no file in the staged tree", "verify the symlinks"
        )
        return
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        run(fd, ("/bin/true",), 60)
    except CommandError as error:
        yield _stop("probe-true", f"/bin/true does not run: {error.args[0]}", "compare its libraries with the source's")
    finally:
        os.close(fd)


def known_names(target: ServerFacts) -> set[str]:
    """Every way in which fstab and a command line can name a device of this machine."""
    found: set[str] = set()
    for device in target.devices:
        found |= {device.path, f"/dev/{device.name}"}
        for tag, value in (
            ("UUID", device.uuid),
            ("LABEL", device.label),
            ("PARTUUID", device.partuuid),
            ("PARTLABEL", device.partlabel),
        ):
            if value:
                found |= {f"{tag}={value}", f"/dev/disk/by-{tag.lower()}/{value}"}
        if device.kind == "lvm" and device.path.startswith("/dev/mapper/"):
            group, _, volume = device.path[12:].replace("--", "\0").partition("-")
            found.add(f"/dev/{group}/{volume}".replace("\0", "-"))
    return found


def check_fstab(host: Host, target: ServerFacts) -> Iterator[Finding]:
    known = known_names(target)
    entries = fstab_entries(host.text("/etc/fstab"))
    for entry in entries:
        spec = entry.spec.replace('"', "")
        device = spec.startswith(("/dev/", "UUID=", "LABEL=", "PARTUUID=", "PARTLABEL="))
        if device and spec not in known and not set(FORGIVING) & set(entry.options):
            # systemd.mount(5): without nofail the boot waits 90 s for it and then stops in emergency mode.
            yield _stop("probe-fstab", f"{entry.spec} for {entry.file} is not on this machine", "plan again, or nofail")
    if "/" not in {entry.file for entry in entries}:
        yield _stop("probe-fstab-root", "etc/fstab has no line for /", "plan again")


def boot_entries(host: Host, target: ServerFacts) -> list[BootEntry]:
    """In the order of the menu as far as files tell; BLS entries by their default first."""
    loader = target.boot_loader
    if loader.bls:
        default = re.search(r"^saved_entry=(.*)$", host.text(loader.environment or "/boot/grub2/grubenv"), re.M)
        paths = sorted(host.glob("/boot/loader/entries/*.conf"), reverse=True)
        paths.sort(key=lambda path: not (default and path.endswith(f"/{default[1]}.conf")))
        return [bls_entry(host.text(path)) for path in paths]
    text = host.text(loader.config) if loader.config else ""
    if is_own_menu(text):  # the take-over's: the adapted one waits beside it until the system has confirmed
        text = host.text(f"{loader.config.rpartition('/')[0]}/{ADAPTED}")
    return legacy_entries(text) if loader.kind == "grub-legacy" else grub_entries(text)


def check_boot(host: Host, target: ServerFacts) -> Iterator[Finding]:
    """The first entry must be right; others are the operator's choice in the menu."""
    prefix, known = boot_prefix(target), known_names(target)
    entries = boot_entries(host, target)
    if not entries:
        yield _stop("probe-no-entry", "the boot menu has no entry that loads a kernel", "plan again")
    for number, entry in enumerate(entries):
        level = Level.WARNING if number else Level.INHIBITOR
        where = f"the boot entry {entry.title!r}"
        names = [entry.image, *entry.initrd.split()]
        missing = [name for name in names if not stat.S_ISREG(host.mode("/" + file_of(name, prefix)))]
        if missing or not entry.initrd:
            yield Finding(
                "probe-boot-file", level, f"{where}: {', '.join(missing) or 'no initrd'} is missing", "plan again"
            )
            continue
        root = cmdline.value(entry.options, "root").replace('"', "")
        if "$" not in entry.options and root not in known:
            yield Finding("probe-root", level, f"{where}: root={root or '(none)'} is not on this machine", "plan again")
        lacking = check_initramfs(host, target, file_of(entry.initrd.split()[-1], prefix))
        for text, id in lacking:
            yield Finding(id, level, f"{where}: {text}", "build the initramfs again with these modules")


def check_initramfs(host: Host, target: ServerFacts, path: str) -> Iterator[tuple[str, str]]:
    """(what is wrong, id of the finding)."""
    fd = host.open(f"/{path}")
    with os.fdopen(fd, "rb") as file:
        try:
            names = [entry.name.decode("utf-8", "backslashreplace").lstrip("./") for entry in cpio.entries(file)]
        except CorruptError as error:
            yield str(error.args[0]), "probe-initramfs"
            return
    if not any(name in ("init", "linuxrc") or name.endswith("/systemd") for name in names):
        yield f"{path} has no init", "probe-initramfs"
    versions = {match[1] for name in names if (match := re.search(r"lib/modules/([^/]+)/", name))}
    have = module_names("".join(f"{name}:\n" for name in names))
    for version in versions:
        have |= module_names(host.text(f"/lib/modules/{version}/modules.builtin"))
    wanted = root_chain(target)
    lacking = [module for module in wanted if module not in have]
    if lacking and any(name.endswith("squashfs-root.img") for name in names):
        yield f"{path} keeps its modules in a squashfs image, which is not read here", "probe-squashed"
    elif lacking:
        yield f"{path} lacks {', '.join(lacking)} on the way to the root", "probe-modules"


def root_chain(target: ServerFacts) -> list[str]:
    """Modules that the running kernel of this machine uses to reach its root: bus, stack, file system. What is built
    into it has no module here and counts as present only if the initramfs' kernel says so too."""
    root = target.mounted("/")
    found = [plain(link.module) for link in target.root_links if link.module]
    for device in target.root_stack():
        name = STACK_MODULES.get(device.kind, device.kind if device.kind.startswith("raid") else "")
        found += [name] if name else []
    if root is not None:
        found.append(root.fstype)
    return list(dict.fromkeys(found))
