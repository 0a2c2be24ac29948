"""Death at many points of an adaptation: the same command goes on from there, and the undo is still exact."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from livelift.adapt.windows.system import DRIVERS
from livelift.cli.main import main
from livelift.edits.windows_saved import NAME
from tests.adapt.windows.machine import pair
from tests.adapt.windows.trees import grow, snapshot
from tests.edits.killer import Killer, run_until


class Case:
    """Two trees, which are the same every time."""

    def __init__(self, top: Path) -> None:
        self.top = top
        source, target = pair()
        source.package("oem3.inf", "printer.inf_amd64_03", ["USBPRINT\\X"], hive=DRIVERS)
        self.source = grow(source, top / "source")
        self.target = grow(target, top / "target")
        self.state = top / "state"
        self.before = snapshot(self.source)

    def call(self, *words: str) -> int:
        where = ["--source-tree", str(self.source), "--target-tree", str(self.target), "--state", str(self.state)]
        return main(["adapt-windows", *where, "--json", *words])

    def content(self) -> dict[str, tuple[bytes, int]]:
        """Without the keep, and without inodes and times, which differ by run."""
        found = snapshot(self.source)
        return {path: state[:2] for path, state in found.items() if not path.startswith(".livelift-kept")}

    def restart(self) -> None:
        shutil.rmtree(self.state, ignore_errors=True)


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, tuple[bytes, int]], int]:
    """What an uninterrupted run comes to, and its number of changing system calls."""
    case = Case(tmp_path / "whole")
    with monkeypatch.context() as patch:
        killer = Killer(patch, 1 << 30)
        assert case.call("--in-place") == 0
    return case.content(), killer.count


@pytest.mark.timeout(120)
def test_the_same_command_goes_on_wherever_it_died(
    tmp_path: Path, whole: tuple[dict[str, tuple[bytes, int]], int], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    wanted, calls = whole
    case = Case(tmp_path / "case")
    resumed = 0
    for at in range(3, calls, max(1, calls // 24)):
        assert not run_until(monkeypatch, at, lambda: case.call("--in-place")), at
        capsys.readouterr()
        again = at // 2 + 1
        run_until(monkeypatch, again, lambda: case.call("--in-place"))  # and dies a second time
        capsys.readouterr()
        assert case.call("--in-place") == 0, at
        resumed += "resumed" in json.loads(capsys.readouterr().out.splitlines()[-1])
        assert case.content() == wanted, at
        assert case.call("--undo") == 0
        assert snapshot(case.source) == case.before, at
        assert not (case.state / NAME).exists()
        case.restart()
    assert resumed > 12


@pytest.mark.timeout(120)
def test_an_undo_works_wherever_the_run_died_also_without_the_hive(
    tmp_path: Path, whole: tuple[dict[str, tuple[bytes, int]], int], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    case = Case(tmp_path / "case")
    hive = case.source / "Windows/System32/config/SYSTEM"
    without = 0
    for at in range(3, whole[1], 4):
        run_until(monkeypatch, at, lambda: case.call("--in-place"))
        without += not hive.exists()
        assert case.call("--undo") == 0, at
        assert snapshot(case.source) == case.before, at
        case.restart()
    assert without, "one of the points lies between the old hive and the new one"


def half(case: Case, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    assert not run_until(monkeypatch, calls // 2, lambda: case.call("--in-place"))


def test_another_command_does_not_go_on_with_it(
    tmp_path: Path, whole: tuple[dict[str, tuple[bytes, int]], int], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    case = Case(tmp_path / "case")
    half(case, monkeypatch, whole[1])
    before = snapshot(case.source)
    assert case.call("--in-place", "--nic", "Ethernet0=none") == 6
    assert case.call("--commit") == 6, "what is half done cannot be kept"
    assert snapshot(case.source) == before
    assert case.call("--in-place") == 0 and case.content() == whole[0]
    assert case.call("--in-place") == 0, "nothing is left to do"
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["edits"] == 0
    assert case.call("--commit") == 0 and case.content() == whole[0]


def test_after_an_interrupted_undo_the_plan_is_made_anew(
    tmp_path: Path, whole: tuple[dict[str, tuple[bytes, int]], int], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    case = Case(tmp_path / "case")
    half(case, monkeypatch, whole[1])
    assert not run_until(monkeypatch, 8, lambda: case.call("--undo"))
    capsys.readouterr()
    assert case.call("--in-place") == 0 and case.content() == whole[0]
    assert "resumed" not in json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_damaged_memory_of_the_work_is_told_and_the_way_back_is_open(
    tmp_path: Path, whole: tuple[dict[str, tuple[bytes, int]], int], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    case = Case(tmp_path / "case")
    half(case, monkeypatch, whole[1])
    path = case.state / NAME
    path.write_bytes(path.read_bytes()[:-1])
    capsys.readouterr()
    assert case.call("--in-place") not in (0, 2)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["error"] == "corrupt" and "--undo" in told["remedy"]
    assert case.call("--undo") == 0 and snapshot(case.source) == case.before
