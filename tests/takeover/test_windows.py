"""The take-over plan of Windows: what must be in it, in which order, and what its renames do to a volume."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livelift.cli.main import main
from livelift.errors import PreflightError
from livelift.takeover.windows import (
    ENTRY,
    TARGET_OWNED,
    Move,
    WindowsFacts,
    plan_moves,
    plan_takeover,
    undo_moves,
)
from livelift.takeover.windows_text import quoted, render, swap_script

FACTS = WindowsFacts(
    "C:",
    ("Windows", "Users", "inetpub", "pagefile.sys"),
    ("Windows", "Users", "PerfLogs", "pagefile.sys", "bootmgr", "System Volume Information", ".livelift"),
    winre="C:\\Windows\\System32\\Recovery",
    bitlocker=True,
    drivers="C:\\.livelift\\drivers",
    in_use=("\\inetpub\\log.txt",),
)


def volume(facts: WindowsFacts) -> dict[str, str]:
    """Path -> whose it is. A directory that is renamed is one entry."""
    disk = {f"C:\\{name}": "target" for name in facts.present}
    disk.update({f"C:\\.livelift\\new\\{name}": "source" for name in facts.staged})
    return disk


def carried_out(disk: dict[str, str], moves: tuple[Move, ...]) -> dict[str, str]:
    disk = dict(disk)
    for move in moves:
        assert move.old in disk, f"{move.old} is not there"
        assert move.new not in disk, f"{move.new} is in the way"
        disk[move.new] = disk.pop(move.old)
    return disk


def test_the_renames_make_the_volume_the_source() -> None:
    disk = carried_out(volume(FACTS), plan_moves(FACTS))
    assert {path: whose for path, whose in disk.items() if not path.startswith("C:\\.livelift\\")} == {
        "C:\\Windows": "source",
        "C:\\Users": "source",
        "C:\\inetpub": "source",
        "C:\\pagefile.sys": "target",
        "C:\\bootmgr": "target",
        "C:\\System Volume Information": "target",
        "C:\\.livelift": "target",
    }
    assert disk["C:\\.livelift\\old\\PerfLogs"] == "target", "what only the target has is kept aside, not deleted"
    assert carried_out(disk, undo_moves(plan_moves(FACTS))) == volume(FACTS)


NAMES = st.lists(st.sampled_from(["Windows", "Users", "a b", "x%y", "pagefile.sys", "Boot", "z"]), unique=True)


@given(NAMES, NAMES, st.integers(0, 20))
def test_a_plan_that_is_cut_off_anywhere_can_be_undone(staged: list[str], present: list[str], cut: int) -> None:
    facts = WindowsFacts("C:", ("Windows", *(n for n in staged if n != "Windows")), tuple(present))
    moves = plan_moves(facts)
    done = moves[:cut]
    assert carried_out(carried_out(volume(facts), done), undo_moves(done)) == volume(facts)
    assert not any(move.old.rpartition("\\")[2].casefold() in TARGET_OWNED for move in moves)
    windows = [n for n, move in enumerate(moves) if move.old.rpartition("\\")[2] == "Windows"]
    assert windows[-1] == len(moves) - 1, "until the last rename the old system boots"


def test_the_recovery_way() -> None:
    plan = plan_takeover(FACTS)
    text = render(plan)
    order = [
        "reg.exe load HKLM\\LiveliftCheck", "manage-bde.exe -protectors -disable C:", "powercfg.exe /hibernate off",
        "bcdedit.exe /export", "dism.exe /Mount-Image", "/Add-Driver", "/Unmount-Image", f"bcdedit.exe /create {ENTRY}",
        f"bcdedit.exe /bootsequence {ENTRY}", "shutdown.exe /r", "move C:\\Windows C:\\.livelift\\old\\Windows",
        "SYSTEM.LOG1", "arm the way back", "confirm",
    ]  # fmt: skip
    places = [text.index(part) for part in order]
    assert places == sorted(places), "each thing before what needs it"
    for step in plan.steps:
        assert step.why
        if step.phase == "target" and "boot configuration" not in step.title:
            assert step.undo, f"{step.title} has no way back"
    assert all("default" not in c for s in plan.steps for c in s.commands if "/set" in c), "the default entry stays"
    assert "winload.efi" in text and "winload.exe" in render(plan_takeover(_with(uefi=False)))
    assert "manage-bde" not in render(plan_takeover(_with(bitlocker=False)))
    assert "/Add-Driver" not in render(plan_takeover(_with(drivers="")))


def _with(**changes: object) -> WindowsFacts:
    import msgspec

    return msgspec.structs.replace(FACTS, **changes)


def test_without_a_recovery_image_the_hives_carry_the_renames() -> None:
    plan = plan_takeover(_with(winre=""))
    assert plan.way == "registry"
    assert [(m.old, m.new) for m in plan.pending] == [
        ("C:\\inetpub\\log.txt", "C:\\.livelift\\old\\inetpub\\log.txt"),
        ("C:\\.livelift\\new\\inetpub\\log.txt", "C:\\inetpub\\log.txt"),
    ]
    titles = [step.title for step in plan.steps]
    renames = next(n for n, title in enumerate(titles) if "pending renames" in title)
    assert renames < titles.index("exchange the hives at the next boot"), "written into the hive that will boot"
    assert any("no journal" in warning for warning in plan.warnings)


@pytest.mark.parametrize(
    ("changes", "way"),
    [
        ({"winre": ""}, "winre"),
        ({"staged": ("Users",)}, "auto"),
        ({"hives": ("SOFTWARE",)}, "auto"),
        ({"volume": "C:\\"}, "auto"),
        ({"staged": ("Windows", "..\\x")}, "auto"),
        ({}, "magic"),
    ],
)
def test_what_is_missing_is_said(changes: dict[str, object], way: str) -> None:
    with pytest.raises(PreflightError) as caught:
        plan_takeover(_with(**changes), way)
    assert caught.value.remedy


def test_lines_can_be_pasted() -> None:
    assert quoted(("a.exe", "/x", "C:\\a b\\")) == 'a.exe /x "C:\\a b\\\\"'
    assert quoted(("a", "", 'say "x"')) == 'a "" "say \\"x\\""'


def test_the_script_goes_both_ways() -> None:
    plan = plan_takeover(FACTS)
    script = swap_script(plan)
    forward, back = script.split(":back\r\n")
    pattern = re.compile(r'not exist "[^"]*" move "%V%([^"]*)" "%V%([^"]*)"')
    assert pattern.findall(forward) == [(m.old[2:], m.new[2:]) for m in plan.moves]
    assert pattern.findall(back) == [(m.old[2:], m.new[2:]) for m in undo_moves(plan.moves)]
    assert "x%%y" in swap_script(plan_takeover(_with(staged=("Windows", "x%y"))))


def test_the_verb_prints_and_never_acts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import msgspec

    facts = tmp_path / "facts.json"
    facts.write_bytes(msgspec.json.encode(FACTS))
    assert main(["takeover-windows", str(facts), "--dry-run", "--script", str(tmp_path / "swap.cmd")]) == 0
    assert "nothing has been done yet" in capsys.readouterr().out
    assert (tmp_path / "swap.cmd").read_bytes().startswith(b"@echo off\r\n")
    assert main(["takeover-windows", str(facts), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["way"] == "winre"
    assert main(["takeover-windows", str(facts)]) == 2
    facts.write_text("{}")
    assert main(["takeover-windows", str(facts), "--dry-run"]) == 2
