"""The boot loader: the target's installed part is kept, the menu names both systems' kernels, the target's first.

The menu of a GRUB without BLS is written here and not by grub-mkconfig: in a staged tree that tool writes paths below
the staging directory, and probes devices that are mounted elsewhere. After the first boot it can run as usual
(`after_boot`).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from livelift.adapt.linux import bls, cmdline
from livelift.adapt.linux.case import Case
from livelift.adapt.linux.kernels import set_aside
from livelift.adapt.linux.menus import command_line, entries, grub_modules, render_legacy, render_menu
from livelift.model.facts import ServerFacts


def adapt(case: Case) -> None:
    loader = case.target.boot_loader
    if loader.kind == "grub2":
        _keep_directory(case)
        _default_grub(case)
        if loader.bls:
            bls.write_entries(case)
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


def _menu(case: Case) -> None:
    path = case.target.boot_loader.config.lstrip("/")
    holder = case.target.mounted("/boot") or case.target.mounted("/")
    device = case.target.device(holder.device) if holder else None
    if device is None or not device.uuid:
        case.draft.inhibit(
            "boot-uuid", "the UUID of the target's /boot is not known", "run livelift facts as root on the target"
        )
        return
    text = render_menu(entries(case), command_line(case), device.uuid, grub_modules(case.target), _terminal(case))
    case.write(
        "boot-loader",
        path,
        text,
        "a menu of the kernels of both systems; the target's first, with the target's root",
        ("target facts: kernels, devices, command_line", "source facts: kernels, command_line"),
        always=True,
    )


def _terminal(case: Case) -> list[str]:
    """The target's own menu shows itself on a serial line, if it did before."""
    old = case.new.text(case.target.boot_loader.config.lstrip("/"))
    return re.findall(r"^(?:serial --|terminal_input |terminal_output ).*$", old, re.M)


def _default_grub(case: Case) -> None:
    """What later runs of grub-mkconfig will take."""
    for path in case.old.matching("etc/default/grub.d/*.cfg"):
        _snippet(case, path)
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


def _snippet(case: Case, path: str) -> None:
    """Cloud images set consoles here, and GRUB_FORCE_PARTUUID: the partition of the source's root."""
    if re.search(r"^GRUB_FORCE_PARTUUID=", case.old.text(path), re.M) and case.new.has(path):
        case.copy("boot-loader", path, "it names the partition of the root")
        return
    text = re.sub(r"^GRUB_FORCE_PARTUUID=.*\n?", "", case.old.text(path), flags=re.M)
    for name in ("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"):
        text = set_variable(text, name, cmdline.without_hardware, add=False)
    case.write("boot-loader", path, text, "console and partition of the root are not the source's")


def set_variable(text: str, name: str, new: Callable[[str], str], add: bool = True) -> str:
    """A shell assignment in double quotes; ``new``: from the old value to the new. Added at the end if it is missing;
    of several the last one counts."""
    matches = list(re.finditer(rf"^{name}=(\"[^\"\n]*\"|'[^'\n]*'|[^\s#]*)", text, re.M))
    if not matches:
        value = new("")
        return text if not add or not value else f'{text.rstrip()}\n{name}="{value}"\n'
    match = matches[-1]
    value = new(match[1].strip("\"'"))
    return f'{text[: match.start()]}{name}="{value}"{text[match.end() :]}'


def _legacy(case: Case) -> None:
    """GRUB 0.97: the device of /boot as the target's own menu has it."""
    path = case.target.boot_loader.config.lstrip("/")
    theirs = case.new.text(path)
    device = re.search(r"^\s*root\s+(\(hd\d+,\d+\))", theirs, re.M)
    if device is None:
        case.draft.inhibit("legacy-root", f"/{path} of the target names no root (hdN,M)", "write its menu by hand")
        return
    head = [line for line in theirs.partition("\ntitle")[0].splitlines() if not line.startswith(("default", "title"))]
    _keep_directory(case)
    case.write(
        "boot-loader",
        path,
        render_legacy(entries(case), command_line(case), device[1], head),
        "a menu of the kernels of both systems; the target's first, with the target's root",
        (f"target:{path}", "source facts: kernels, command_line"),
        always=True,
    )


def after_boot(target: ServerFacts) -> tuple[tuple[str, ...], ...]:
    """Commands for the moved system once it runs on its own: they renew what was written for the first boot. Both
    systems are of one family."""
    loader, uefi = target.boot_loader, target.firmware.kind == "uefi"
    if loader.kind != "grub2":
        return ()
    two = target.release.family != "debian"
    install = "grub2-install" if two else "grub-install"
    refresh = ("grub2-mkconfig", "-o", loader.config) if two else ("update-grub",)
    commands: list[tuple[str, ...]] = []
    if not uefi:
        commands += [(install, disk) for disk in loader.stage1]
    elif not two:
        commands.append((install, f"--efi-directory={loader.esp}"))
    return (*commands, *(() if loader.bls else (refresh,)))
