"""The boot switch: what GRUB is told while two systems share a machine. Text in, text out.

Both boot directories, the old system's and the new one's, carry the same three things beside GRUB's own files:

    livelift.cfg            the mode, one small file that is replaced as a whole; the entries of the stage are in it
    custom.cfg              a block that sources livelift.cfg; stock menus source custom.cfg at their end
    livelift-takeover.*     kernel and image of the stage

and the new system's has a grub.cfg of ours, which sources nothing but livelift.cfg, until it has confirmed; the adapted
one waits beside it. So what an entry that GRUB chooses by itself leads to depends on livelift.cfg alone:

    idle       nothing: the menu's own default
    stage      the stage, which decides by what it has written down
    counted    the menu's own default, counted in grubenv before the boot; too many without a sign of life: back

GRUB does not replay a file system's journal, so it may see a mode that is some seconds old. That is harmless: the stage
never trusts the entry that it was started by, except for a wish to go back.
"""

from __future__ import annotations

import re
from typing import Final

from livelift.adapt.linux import cmdline
from livelift.takeover.records import Menu

MODE: Final = "livelift.cfg"
MENU: Final = "grub.cfg"
ADAPTED: Final = "livelift-adapted.cfg"
CUSTOM: Final = "custom.cfg"
ENVIRONMENT: Final = "grubenv"
KERNEL: Final = "livelift-takeover.kernel"
IMAGE: Final = "livelift-takeover.img"

IDLE: Final = "idle"
STAGE: Final = "stage"
COUNTED: Final = "counted"

ENTRY: Final = "livelift-stage"
ENTRY_BACK: Final = "livelift-back"
TRIES: Final = "livelift_tries"
"""Variable of grubenv: boots of a confirmed system that it has not acknowledged."""
PARAMETER: Final = "livelift"
"""On the kernel's command line: back (the operator chose that entry) or unacknowledged (GRUB did)."""
OURS: Final = "# livelift: the menu until the new system has confirmed"

WATCHED: Final = ("panic=30", "rd.shell=0", "rd.emergency=reboot")
"""A panic reboots after 30 s (kernel-parameters.txt); initramfs-tools reboots instead of a shell where panic= is set
(initramfs-tools(7)), dracut by the other two (dracut.cmdline(7))."""

NOT_OURS: Final = ("BOOT_IMAGE", "initrd")
"""Words that the boot loader itself adds."""

_BEGIN: Final = '# livelift: begin ("livelift takeover uninstall" or "commit" takes this away)\n'
_END: Final = "# livelift: end\n"
_BLOCK: Final = (
    f'{_BEGIN}if [ -z "${{livelift_seen}}" -a -f $prefix/{MODE} ]; then\n  source $prefix/{MODE}\nfi\n{_END}'
)


def mode_text(mode: str, menu: Menu, tries: int = 2) -> str:
    """livelift.cfg. ``tries``: as of `records.Config`."""
    lines = [f"# livelift-mode: {mode}", "set livelift_seen=1", "set livelift_why=back"]
    if mode == STAGE:
        lines += [f"set default={ENTRY}", "set timeout=3"]
    elif mode == COUNTED:
        lines += _count(tries)
    lines += _entry(menu, ENTRY, "Livelift: the take-over stage", "")
    lines += _entry(menu, ENTRY_BACK, "Livelift: back to the old system", f" {PARAMETER}=${{livelift_why}}")
    return "\n".join(lines) + "\n"


def _count(tries: int) -> list[str]:
    """GRUB's script language has no arithmetic."""
    lines = []
    for number in range(tries):
        word = "elif" if number else "if"
        test = f'[ "${{{TRIES}}}" = {number} ]' if number else f'[ -z "${{{TRIES}}}" ]'
        lines += [f"{word} {test}; then", f"  set {TRIES}={number + 1}", f"  save_env {TRIES}"]
    return [*lines, "else", "  set livelift_why=unacknowledged", f"  set default={ENTRY_BACK}", "  set timeout=3", "fi"]


def _entry(menu: Menu, id: str, title: str, more: str) -> list[str]:
    """--unrestricted: a menu with a password would ask for it before it boots its default."""
    return [
        f"menuentry '{title}' --unrestricted --id '{id}' {{",
        *(f"  insmod {module}" for module in ("gzio", *menu.modules)),
        f"  search --no-floppy --fs-uuid --set=root {menu.uuid}",
        f"  linux {menu.prefix}/{KERNEL} {' '.join(map(_quoted, cmdline.words(menu.command_line)))}{more}",
        f"  initrd {menu.prefix}/{IMAGE}",
        "}",
    ]


def _quoted(word: str) -> str:
    """For GRUB's script. Double quotes mean to it what they mean to the kernel."""
    return word if '"' in word or re.fullmatch(r"[\w.,:/=+@%~^-]*", word) else f"'{word}'"


def watched_line(command_line: str) -> str:
    """A kernel command line for the stage: no quiet failure, no shell that waits for somebody."""
    names = {cmdline.name_of(word) for word in (*WATCHED, PARAMETER, *NOT_OURS)}
    kept = [word for word in cmdline.words(command_line) if cmdline.name_of(word) not in names]
    return " ".join([*kept, *WATCHED])


def own_menu(menu: Menu) -> str:
    """grub.cfg of a system that has not confirmed."""
    return "\n".join(
        [
            OURS,
            "if [ -s $prefix/grubenv ]; then",
            "  load_env",
            "fi",
            *menu.terminal,
            f"source $prefix/{MODE}",
            "",
        ]
    )


def is_own_menu(text: str) -> bool:
    return text.startswith(OURS)


def mode_of(text: str) -> str:
    """Of a livelift.cfg; empty if it is none."""
    match = re.match(r"# livelift-mode: (\w+)\n", text)
    return match[1] if match else ""


def with_block(text: str) -> str:
    """A custom.cfg that sources the mode, last."""
    text = without_block(text)
    return text + ("\n" if text and not text.endswith("\n") else "") + _BLOCK


def without_block(text: str) -> str:
    return re.sub(re.escape(_BEGIN) + r".*?" + re.escape(_END), "", text, flags=re.S)


def adapted_menu(text: str) -> str:
    """The menu of a confirmed system: as it was adapted, and the mode sourced at its end. Until the commit its kernels
    do not stop where nobody is: a boot that is counted has to end to be counted again."""
    text = _LINUX.sub(_watched_entry, without_block(text))
    return text if sources_custom(text) else with_block(text)


_LINUX: Final = re.compile(r"^\s*linux(?:16|efi)?[ \t].*$", re.M)


def _watched_entry(match: re.Match[str]) -> str:
    """A line of a menu that starts a kernel with a root. Not one by which somebody wants to look into it."""
    names = {cmdline.name_of(word) for word in match[0].split()}
    if "root" not in names or names & {"single", "recovery", "emergency", "rescue", "init", "rd.break", "panic"}:
        return match[0]
    return " ".join([match[0].rstrip(), *(word for word in WATCHED if cmdline.name_of(word) not in names)])


def sources_custom(text: str) -> bool:
    """Whether a menu sources custom.cfg, as 41_custom of grub-mkconfig makes it do."""
    return bool(re.search(rf"^\s*source\s+\S*/{re.escape(CUSTOM)}\s*$", text, re.M))


def clears_next_entry(text: str) -> bool:
    """Whether a menu boots next_entry once: reads it and saves that it is gone (00_header of grub-mkconfig)."""
    return all(
        re.search(pattern, text, re.M)
        for pattern in (r'^\s*set default="\$\{next_entry\}"', r"^\s*set next_entry=\s*$", r"^\s*save_env next_entry")
    )


def terminal_lines(text: str) -> tuple[str, ...]:
    """A menu that shows itself on a serial line."""
    return tuple(re.findall(r"^(?:serial --|terminal_input |terminal_output ).*$", text, re.M))
