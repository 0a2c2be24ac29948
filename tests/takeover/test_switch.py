"""What the switch tells GRUB: each mode, in the old system's stock menu and in the new system's menus."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from livelift.adapt.linux.grubenv import environment, environment_block
from livelift.takeover import switch
from livelift.takeover.records import Menu
from tests.takeover import grub

MENU = Menu(
    prefix="/boot",
    uuid="1-2-3",
    modules=("part_gpt", "ext2"),
    terminal=("serial --unit=0", "terminal_output serial"),
    command_line="root=UUID=1 ro console=ttyS0,115200 panic=30 rd.shell=0 rd.emergency=reboot",
)


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    (tmp_path / "grub.cfg").write_text(grub.STOCK)
    (tmp_path / "grubenv").write_text(environment_block({}))
    (tmp_path / "custom.cfg").write_text(switch.with_block("# the operator's own\n"))
    return tmp_path


def set_mode(prefix: Path, mode: str, tries: int = 2) -> None:
    (prefix / "livelift.cfg").write_text(switch.mode_text(mode, MENU, tries))


def test_a_stock_menu_with_the_switch_at_rest(prefix: Path) -> None:
    set_mode(prefix, switch.IDLE)
    menu = grub.Menu(prefix)
    assert menu.wish() == "own" and menu.chosen().title == "SYSTEM"
    assert [entry.id for entry in menu.entries] == ["", switch.ENTRY, switch.ENTRY_BACK]


def test_next_entry_leads_to_the_stage_once(prefix: Path) -> None:
    set_mode(prefix, switch.IDLE)
    (prefix / "grubenv").write_text(environment_block({"next_entry": switch.ENTRY, "kept": "1"}))
    assert grub.Menu(prefix).wish() == ""
    assert environment((prefix / "grubenv").read_text()) == {"kept": "1"}
    assert grub.Menu(prefix).wish() == "own"


def test_the_stage_mode_wins_over_every_default(prefix: Path) -> None:
    set_mode(prefix, switch.STAGE)
    for pairs in ({}, {"next_entry": "0"}, {"saved_entry": "0"}):
        (prefix / "grubenv").write_text(environment_block(pairs))
        menu = grub.Menu(prefix)
        assert menu.chosen().id == switch.ENTRY and menu.wish() == ""


@pytest.mark.parametrize("tries", [1, 2, 3])
def test_starts_are_counted_and_too_many_lead_back(prefix: Path, tries: int) -> None:
    set_mode(prefix, switch.COUNTED, tries)
    for number in range(tries):
        assert grub.Menu(prefix).wish() == "own", number
        assert environment((prefix / "grubenv").read_text()) == {switch.TRIES: str(number + 1)}
    assert grub.Menu(prefix).wish() == "unacknowledged"
    assert grub.Menu(prefix).wish() == "unacknowledged"
    (prefix / "grubenv").write_text(environment_block({}))
    assert grub.Menu(prefix).wish() == "own"


def test_our_own_menu_sources_nothing_of_the_adapted_one(prefix: Path) -> None:
    (prefix / "livelift-adapted.cfg").write_text("this would be an error {")
    (prefix / "grub.cfg").write_text(switch.own_menu(MENU))
    set_mode(prefix, switch.STAGE)
    menu = grub.Menu(prefix)
    assert menu.wish() == "" and len(menu.entries) == 2
    assert switch.is_own_menu(switch.own_menu(MENU)) and not switch.is_own_menu(grub.STOCK)


def test_an_adapted_menu_that_sources_nothing_gets_the_block(prefix: Path) -> None:
    plain = grub.STOCK[: grub.STOCK.index("if [ -f  ${config")]
    set_mode(prefix, switch.COUNTED)
    for text in (plain, grub.STOCK):
        (prefix / "grub.cfg").write_text(switch.adapted_menu(text))
        (prefix / "grubenv").write_text(environment_block({}))
        assert [grub.Menu(prefix).wish() for _ in range(3)] == ["own", "own", "unacknowledged"]
        assert switch.without_block(switch.adapted_menu(text)).replace(f" {' '.join(switch.WATCHED)}", "") == text
    assert "livelift" not in switch.adapted_menu(grub.STOCK), "its custom.cfg has it"


def test_a_counted_boot_that_fails_ends_by_itself() -> None:
    """Without panic= a kernel that finds no root stands still, and so does initramfs-tools' shell."""
    start, own = "  linux /vmlinuz root=UUID=1 ro", "\tlinuxefi\t/vmlinuz root=/dev/vg/a rd.shell=1"
    lines = {
        f"{start} quiet ": f"{start} quiet panic=30 rd.shell=0 rd.emergency=reboot",
        own: f"{own} panic=30 rd.emergency=reboot",
        f"{start} panic=5": f"{start} panic=5",
        f"{start} single": f"{start} single",
        "  linux16 /memtest86+.bin": "  linux16 /memtest86+.bin",
    }
    for line, watched in lines.items():
        menu = switch.adapted_menu(f"menuentry 'x' {{\n{line}\n  initrd /initrd.img\n}}\n")
        assert menu.split("\n")[1] == watched
        assert switch.adapted_menu(switch.without_block(menu)) == menu


def test_the_block_comes_and_goes_without_a_trace() -> None:
    for text in ("", "set a=1\n", "menuentry 'x' {\n}\n"):
        assert switch.without_block(switch.with_block(text)) == text
        assert switch.with_block(switch.with_block(text)) == switch.with_block(text)


def test_what_a_menu_can_do() -> None:
    assert switch.sources_custom(grub.STOCK) and switch.clears_next_entry(grub.STOCK)
    assert not switch.sources_custom(grub.STOCK.replace("/custom.cfg\n", "/other.cfg\n"))
    assert not switch.clears_next_entry(grub.STOCK.replace("save_env next_entry", "true"))
    assert switch.terminal_lines(grub.STOCK) == ("serial --unit=0 --speed=115200", "terminal_output serial")
    for mode in (switch.IDLE, switch.STAGE, switch.COUNTED):
        assert switch.mode_of(switch.mode_text(mode, MENU)) == mode
    assert switch.mode_of(grub.STOCK) == ""


def test_the_kernels_command_line() -> None:
    told = 'BOOT_IMAGE=/vmlinuz root=UUID=1 panic=0 dyndbg="file x +p" livelift=back rd.shell quiet'
    line = switch.watched_line(told)
    assert line == 'root=UUID=1 dyndbg="file x +p" quiet panic=30 rd.shell=0 rd.emergency=reboot'
    menu = MENU._replace(command_line="root=/dev/mapper/vg-a a=$b;c nfs=[::1]:/x")
    (linux,) = {line for line in switch.mode_text(switch.STAGE, menu).splitlines() if line.endswith("/x'")}
    assert linux == "  linux /boot/livelift-takeover.kernel root=/dev/mapper/vg-a 'a=$b;c' 'nfs=[::1]:/x'"


@pytest.mark.skipif(shutil.which("grub-script-check") is None, reason="grub-script-check is not installed")
@pytest.mark.parametrize("mode", [switch.IDLE, switch.STAGE, switch.COUNTED])
def test_grub_itself_can_parse_it(tmp_path: Path, mode: str) -> None:
    for text in (switch.mode_text(mode, MENU), switch.own_menu(MENU), switch.with_block("")):
        (tmp_path / "x.cfg").write_text(text)
        subprocess.run(["grub-script-check", tmp_path / "x.cfg"], check=True)
