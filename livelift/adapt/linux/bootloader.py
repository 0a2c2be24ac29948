"""The boot loader: the target's installed part is kept, the menu names both systems' kernels, the target's first.

The menu of a GRUB without BLS is written here and not by grub-mkconfig: in a staged tree that tool writes paths below
the staging directory, and probes devices that are mounted elsewhere. After the first boot it can run as usual
(`after_boot`).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from livelift.adapt.linux import cmdline
from livelift.adapt.linux.case import Case
from livelift.adapt.linux.kernels import set_aside
from livelift.model.facts import Kernel


class Entry(NamedTuple):
    """``image`` and ``initrd`` as GRUB sees them."""

    title: str
    version: str
    image: str
    initrd: str


def adapt(case: Case) -> None:
    loader = case.target.boot_loader
    if loader.kind == "grub2":
        _keep_directory(case)
        _default_grub(case)
        if loader.bls:
            _bls(case)
        else:
            _menu(case)
    elif loader.kind == "grub-legacy":
        _legacy(case)
    elif loader.kind == "systemd-boot":
        case.draft.warn(
            "systemd-boot",
            "the entries on the target's ESP are kept as they are: they name the target's kernels only",
            "run kernel-install or bootctl for the source's kernels after the commit",
        )
    else:
        case.draft.inhibit("boot-loader-unknown", "the target's boot loader is not known", "install GRUB 2 on it")


def grub_directory(case: Case) -> str:
    """The target's, as it is where its first stage looks for it."""
    return case.target.boot_loader.config.lstrip("/").rpartition("/")[0]


def _keep_directory(case: Case) -> None:
    """core.img and the modules beside it are of one build; so is the environment block's place."""
    directory = grub_directory(case)
    if not case.new.has(directory):
        case.draft.inhibit(
            "grub-directory", f"/{directory} of the target was not listed", "take the files of the target again"
        )
        return
    reason = "GRUB's first stage on the target's disk and its modules are of one build"
    if case.old.has(directory):
        set_aside(case, "boot-loader", directory, reason)
    case.copy_tree("boot-loader", directory, reason)
    custom = f"{directory}/custom.cfg"
    if case.old.contents.get(custom):
        case.draft.note(
            "grub-custom", f"/{custom} of the source is in /{directory}.source", "copy it back if it is still wanted"
        )


def boot_prefix(case: Case) -> str:
    """How GRUB names the directory of the target's kernels: it knows nothing of mounts, and sees a btrfs subvolume as a
    directory. The running kernel was told (BOOT_IMAGE), with the device in parentheses on some systems."""
    told = cmdline.value(case.target.command_line, "BOOT_IMAGE")
    if told:
        return re.sub(r"^\([^)]*\)", "", told).rpartition("/")[0]
    return "" if case.target.mounted("/boot") else "/boot"


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
    prefix = boot_prefix(case)
    found = []
    for kernel in kernels_in_order(case):
        image = kernel.image.removeprefix("/boot/")
        initrd = kernel.initrd.removeprefix("/boot/") or f"initrd.img-{kernel.version}"
        name = case.source.release.name or "Linux"
        found.append(Entry(f"{name}, {kernel.version}", kernel.version, f"{prefix}/{image}", f"{prefix}/{initrd}"))
    return found


def command_line(case: Case) -> str:
    return cmdline.merge(case.source.command_line, case.target.command_line)


def grub_modules(case: Case) -> list[str]:
    """What GRUB needs to read the target's /boot: partition tables, stack, file system."""
    holder = case.target.mounted("/boot") or case.target.mounted("/")
    if holder is None:
        return []
    found = {"ext2": "ext2", "ext3": "ext2", "ext4": "ext2", "xfs": "xfs", "btrfs": "btrfs", "f2fs": "f2fs"}
    modules = []
    for device in reversed(case.target.stack(holder.device)):
        if device.table:
            modules.append("part_gpt" if device.table == "gpt" else "part_msdos")
        if device.kind.startswith("raid"):
            modules += ["diskfilter", "mdraid09", "mdraid1x", f"{device.kind}rec" if device.kind > "raid3" else ""]
        if device.kind == "lvm":
            modules.append("lvm")
        if device.kind == "crypt":
            modules += ["cryptodisk", "luks"]
    return list(dict.fromkeys([m for m in modules if m] + [found.get(holder.fstype, holder.fstype)]))


def _menu(case: Case) -> None:
    path = case.target.boot_loader.config.lstrip("/")
    holder = case.target.mounted("/boot") or case.target.mounted("/")
    device = case.target.device(holder.device) if holder else None
    if device is None or not device.uuid:
        case.draft.inhibit(
            "boot-uuid", "the UUID of the target's /boot is not known", "run livelift facts as root on the target"
        )
        return
    text = render_menu(entries(case), command_line(case), device.uuid, grub_modules(case), _terminal(case))
    case.write(
        "boot-loader",
        path,
        text,
        "a menu of the kernels of both systems; the target's first, with the target's root",
        ("target facts: kernels, devices, command_line", "source facts: kernels, command_line"),
    )


def render_menu(listed: list[Entry], line: str, uuid: str, modules: list[str], terminal: list[str]) -> str:
    """A grub.cfg. next_entry is what grub-reboot sets for one boot, saved_entry what grub-set-default keeps."""
    lines = [
        "# Written by livelift; the next run of update-grub or grub2-mkconfig replaces it.",
        "set timeout=5",
        "load_env",
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
            "  load_video" if False else "  insmod gzio",
            *(f"  insmod {module}" for module in modules),
            f"  search --no-floppy --fs-uuid --set=root {uuid}",
            f"  linux {entry.image} {line}",
            f"  initrd {entry.initrd}",
            "}",
        ]
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    return text.replace("'", "")


def _terminal(case: Case) -> list[str]:
    """The target's own menu shows itself on a serial line, if it did before."""
    old = case.new.text(case.target.boot_loader.config.lstrip("/"))
    return re.findall(r"^(?:serial --|terminal_input |terminal_output ).*$", old, re.M)


def _default_grub(case: Case) -> None:
    """What later runs of grub-mkconfig will take."""
    path = "etc/default/grub"
    text = case.old.text(path)
    if not text:
        return
    theirs = case.new.text(path)
    told = case.target.command_line
    text = set_variable(text, "GRUB_CMDLINE_LINUX", lambda old: cmdline.merge_variable(old, told))
    text = set_variable(text, "GRUB_CMDLINE_LINUX_DEFAULT", cmdline.without_hardware, add=False)
    for name in ("GRUB_TERMINAL", "GRUB_TERMINAL_INPUT", "GRUB_TERMINAL_OUTPUT", "GRUB_SERIAL_COMMAND"):
        match = re.search(rf"^{name}=.*$", theirs, re.M)
        text = re.sub(rf"^{name}=.*\n", "", text, flags=re.M)
        text += f"{match[0]}\n" if match else ""
    case.write(
        "boot-loader",
        path,
        text,
        "root, resume, console and storage options are the target's; tuning stays the source's",
        (f"source:{path}", f"target:{path}", "target facts: command_line"),
    )


def set_variable(text: str, name: str, new, add: bool = True) -> str:  # type: ignore[no-untyped-def]
    """A shell assignment in double quotes; ``new``: from the old value to the new. Added at the end if it is missing."""
    match = None
    for match in re.finditer(rf"^{name}=(\"[^\"\n]*\"|'[^'\n]*'|[^\s#]*)", text, re.M):
        pass  # the last one counts
    if match is None:
        value = new("")
        return text if not add or not value else f"{text.rstrip()}\n{name}=\"{value}\"\n"
    value = new(match[1].strip("\"'"))
    return f'{text[: match.start()]}{name}="{value}"{text[match.end() :]}'


def _bls(case: Case) -> None:
    """Boot Loader Specification, type 1: one file a kernel, named by the machine-id; grub.cfg itself is generic."""
    machine_id = case.target.machine_id if case.policy.machine_id == "target" else case.source.machine_id
    line = command_line(case)
    for path in case.old.matching("boot/loader/entries/*.conf"):
        version = next((k.version for k in case.source.kernels if path.endswith(f"-{k.version}.conf")), "")
        if not version:
            case.delete("boot-loader", path, "a rescue image or a kernel that is not there, for the source's hardware")
    for number, entry in enumerate(entries(case)):
        path = f"boot/loader/entries/{machine_id}-{entry.version}.conf"
        users = "$grub_users" if case.family == "redhat" else ""
        text = (
            f"title {entry.title}\nversion {entry.version}\nlinux {entry.image}\ninitrd {entry.initrd}\n"
            f"options {line}\n" + (f"grub_users {users}\ngrub_arg --unrestricted\ngrub_class {case.source.release.id}\n")
        )
        case.write("boot-loader", path, text, "an entry of each kernel, with the target's root")
        if number == 0:
            _default_entry(case, f"{machine_id}-{entry.version}")
    if case.old.has("etc/kernel/cmdline"):
        case.write("boot-loader", "etc/kernel/cmdline", f"{line}\n", "new kernels take their command line from here")
    esp = case.target.boot_loader.esp
    if case.target.firmware.kind == "uefi" and esp and case.new.text(f"{esp.lstrip('/')}/EFI/{case.source.release.id}"):
        case.draft.note("esp-grub-cfg", "grub.cfg on the target's ESP is kept")


def _default_entry(case: Case, entry: str) -> None:
    path = case.target.boot_loader.environment.lstrip("/")
    if not path:
        return
    old = case.new.contents.get(path, b"").decode("utf-8", "surrogateescape")
    kept = {k: v for k, v in environment(old).items() if k not in ("saved_entry", "next_entry", "kernelopts")}
    kept["saved_entry"] = entry
    if "kernelopts" in environment(old):
        kept["kernelopts"] = command_line(case)
    case.write(
        "boot-loader", path, environment_block(kept), "the target's kernel is the default", (f"target:{path}",)
    )


def environment(text: str) -> dict[str, str]:
    """A GRUB environment block: a comment line, name=value lines, filled up with #."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return dict((pair[0], pair[1]) for pair in pairs)


def environment_block(pairs: dict[str, str]) -> str:
    """Exactly 1024 bytes (grub manual, "Environment block"). ValueError if it does not fit."""
    text = "# GRUB Environment Block\n" + "".join(f"{name}={value}\n" for name, value in pairs.items())
    if len(text.encode("utf-8", "surrogateescape")) > 1024:
        raise ValueError("a GRUB environment block holds 1024 bytes")
    return text + "#" * (1024 - len(text.encode("utf-8", "surrogateescape")))


def _legacy(case: Case) -> None:
    """GRUB 0.97: titles in menu.lst or grub.conf; the device of /boot as the target's own menu has it."""
    path = case.target.boot_loader.config.lstrip("/")
    theirs = case.new.text(path)
    device = re.search(r"^\s*root\s+(\(hd\d+,\d+\))", theirs, re.M)
    if device is None:
        case.draft.inhibit("legacy-root", f"/{path} of the target names no root (hdN,M)", "write its menu by hand")
        return
    head = [line for line in theirs.partition("\ntitle")[0].splitlines() if not line.startswith(("default", "title"))]
    lines = [*head, "default=0"]
    for entry in entries(case):
        lines += [f"title {entry.title}", f"\troot {device[1]}", f"\tkernel {entry.image} {command_line(case)}"]
        lines += [f"\tinitrd {entry.initrd}"]
    _keep_directory(case)
    case.write(
        "boot-loader",
        path,
        "\n".join(lines) + "\n",
        "a menu of the kernels of both systems; the target's first, with the target's root",
        (f"target:{path}", "source facts: kernels, command_line"),
    )


def after_boot(case: Case) -> tuple[tuple[str, ...], ...]:
    """Commands for the moved system once it runs on its own: they renew what was written for the first boot."""
    loader, uefi = case.target.boot_loader, case.target.firmware.kind == "uefi"
    if loader.kind != "grub2":
        return ()
    two = case.family != "debian"
    install = "grub2-install" if two else "grub-install"
    refresh = ("grub2-mkconfig", "-o", loader.config) if two else ("update-grub",)
    commands: list[tuple[str, ...]] = []
    if not uefi:
        commands += [(install, disk) for disk in loader.stage1]
    elif not two:
        commands.append((install, f"--efi-directory={loader.esp}"))
    return (*commands, *(() if loader.bls else (refresh,)))
