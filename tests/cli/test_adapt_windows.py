"""livelift adapt-windows on plain trees: the dry run changes nothing, the real one is complete, the undo exact."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from livelift.adapt.windows.consistency import check
from livelift.adapt.windows.system import DRIVERS
from livelift.cli.main import main
from livelift.edits import editor
from livelift.edits.copier import Copier
from livelift.edits.windows_tree import WindowsTree
from livelift.registry.reader import read_hive
from livelift.registry.values import BINARY, number_of, text_of
from livelift.registry.writer import write_hive
from tests.adapt.windows.machine import ENTRY, pair
from tests.adapt.windows.realhives import hive, machine, need_hives, unpack
from tests.adapt.windows.trees import grow, put, respelled, snapshot, software


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path, Path]:
    source, target = pair()
    source.package("oem3.inf", "printer.inf_amd64_03", ["USBPRINT\\X"], hive=DRIVERS)
    return grow(source, tmp_path / "source"), grow(target, tmp_path / "target"), tmp_path / "state"


def call(
    capsys: pytest.CaptureFixture[str], trees: tuple[Path, Path, Path], *words: object
) -> tuple[int, dict[str, Any]]:
    source, target, state = trees
    where = ["--source-tree", source, "--target-tree", target, "--state", state]
    code = main(["adapt-windows", *map(str, where), "--json", *map(str, words)])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return code, lines[-1]


def test_a_dry_run_prints_the_plan_and_changes_nothing(trees: tuple[Path, Path, Path], capsys: Any) -> None:
    before = [snapshot(tree) for tree in trees[:2]]
    code, told = call(capsys, trees, "--dry-run")
    assert code == 0 and told["inhibitors"] == 0
    ids = {edit["id"] for edit in told["edits"]}
    assert {"devices/enum", "boot-drivers/pvscsi", "inf-files/oem2.inf", "hive-logs/system.log1"} <= ids
    assert [snapshot(tree) for tree in trees[:2]] == before and not trees[2].exists()
    words = ["--source-tree", str(trees[0]), "--target-tree", str(trees[1]), "--dry-run"]
    assert main(["adapt-windows", *words]) == 0
    assert "@@ boot-drivers/pvscsi\n   SYSTEM\\ControlSet001\\Services\\pvscsi : Start\n" in capsys.readouterr().out


def test_in_place_the_tree_is_that_of_the_plan_and_the_undo_exact(trees: tuple[Path, Path, Path], capsys: Any) -> None:
    source, target, _ = trees
    before = snapshot(source), snapshot(target)
    code, told = call(capsys, trees, "--in-place")
    assert code == 0 and told["edits"] > 5 and set(told["hives"]) == {"SYSTEM", "DRIVERS"}
    merged, other = WindowsTree(str(source)).machine(), WindowsTree(str(target)).machine()
    service = merged.control("Services\\pvscsi")
    assert service is not None and number_of(service.value("Start")) == 4
    name = merged.control("Control\\ComputerName\\ComputerName")
    assert name is not None and text_of(name.value("ComputerName")) == "old"
    assert (source / "Windows/System32/drivers/megaraid.sys").read_bytes() == b"vendor"
    assert (source / "Windows/INF/oem0.inf").read_bytes() == b"pvscsi.inf_amd64_01"
    assert (source / "Windows/INF/oem2.inf").read_bytes() == b"megaraid.inf_amd64_02"
    assert not (source / "Windows/INF/oem2.pnf").exists()
    assert not (source / "Windows/System32/config/SYSTEM.LOG1").exists()
    store = "Windows/System32/DriverStore/FileRepository/megaraid.inf_amd64_02/megaraid.inf"
    assert (source / store).exists()
    assert [f for f in check(merged, merged, other) if f.level > 25] == []
    assert snapshot(target) == before[1]
    code, told = call(capsys, trees, "--undo")
    assert code == 0 and told["undone"] > 5
    assert snapshot(source) == before[0]


def test_the_journal_lies_outside_of_the_trees(trees: tuple[Path, Path, Path], capsys: Any) -> None:
    before = snapshot(trees[0])
    for inside in trees[:2]:
        assert call(capsys, (*trees[:2], inside / "state"), "--in-place")[0] == 2
    assert snapshot(trees[0]) == before


def test_a_full_disk_is_told_with_the_way_back(
    trees: tuple[Path, Path, Path], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(trees[0])
    real = Copier.copy

    def full(self: Copier, fd: int, name: bytes, *rest: Any) -> Any:
        if name == b"megaraid.sys":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        return real(self, fd, name, *rest)

    monkeypatch.setattr(Copier, "copy", full)
    code, told = call(capsys, trees, "--in-place")
    assert code == 1 and told["error"] == "store" and "--undo" in told["remedy"] and "No space" in told["text"]
    assert call(capsys, trees, "--undo")[0] == 0 and snapshot(trees[0]) == before


def test_the_boot_store_is_handed_over_and_never_put_in_place(tmp_path: Path, capsys: Any) -> None:
    source, target = pair()
    old = grow(source, tmp_path / "s")
    new = grow(target, tmp_path / "t", boot="EFI/Microsoft/Boot/BCD")
    store = source.boot_store()
    store.root.make(f"Objects\\{ENTRY}\\Elements\\16000049").set("Element", BINARY, b"\1")
    put(old / "Boot/BCD", write_hive(store))
    before = snapshot(new)
    code, told = call(capsys, (old, new, tmp_path / "state"), "--in-place")
    assert code == 0 and told["boot_store"] == str(tmp_path / "state/BCD")
    merged = read_hive((tmp_path / "state/BCD").read_bytes())
    flag, device = (merged.find(f"Objects\\{ENTRY}\\Elements\\{number}") for number in ("16000049", "11000001"))
    assert flag is not None and device is not None
    value = device.value("Element")
    assert value is not None and value.data == b"new" and snapshot(new) == before


def test_a_commit_deletes_the_way_back(trees: tuple[Path, Path, Path], capsys: Any) -> None:
    assert call(capsys, trees, "--in-place")[0] == 0
    assert (trees[0] / ".livelift-kept").exists()
    adapted = {path: state[:3] for path, state in snapshot(trees[0]).items() if not path.startswith(".livelift-kept")}
    code, told = call(capsys, trees, "--commit")
    assert code == 0 and told["committed"] > 5
    assert {path: state[:3] for path, state in snapshot(trees[0]).items()} == adapted
    assert call(capsys, trees, "--undo")[1]["undone"] == 0


def test_no_journal_is_nothing_to_undo(trees: tuple[Path, Path, Path], capsys: Any) -> None:
    assert call(capsys, trees, "--undo")[0] == call(capsys, trees, "--commit")[0] == 2


def test_the_same_plan_is_not_carried_out_twice(trees: tuple[Path, Path, Path], capsys: Any) -> None:
    assert call(capsys, trees, "--in-place")[0] == 0
    before = snapshot(trees[0])
    code, told = call(capsys, trees, "--in-place", "--nic", "Ethernet0=Ethernet")
    assert code == 6 and told["error"] == "state" and snapshot(trees[0]) == before


@pytest.mark.parametrize("last", [2, 5, 8, 10])
def test_an_interrupted_run_is_taken_back_exactly(
    last: int, trees: tuple[Path, Path, Path], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(trees[0])
    made = editor.Editor.make
    count = 0

    def dying(self: editor.Editor, number: int, edit: Any) -> None:
        nonlocal count
        count += 1
        if count == last:
            raise KeyboardInterrupt
        made(self, number, edit)

    monkeypatch.setattr(editor.Editor, "make", dying)
    words = ["--source-tree", *map(str, trees[:1]), "--target-tree", str(trees[1]), "--state", str(trees[2])]
    assert main(["adapt-windows", *words, "--in-place"]) == 130
    assert snapshot(trees[0]) != before
    monkeypatch.undo()
    code, _ = call(capsys, trees, "--undo")
    assert code == 0 and snapshot(trees[0]) == before


def test_output_writes_hives_and_plan_and_leaves_the_trees(
    trees: tuple[Path, Path, Path], capsys: Any, tmp_path: Path
) -> None:
    before = [snapshot(tree) for tree in trees[:2]]
    out = tmp_path / "out"
    code, told = call(capsys, trees, "--output", out)
    assert code == 0 and told["output"] == str(out)
    assert sorted(path.name for path in out.iterdir()) == ["DRIVERS", "SYSTEM", "plan.json", "plan.txt"]
    merged = read_hive((out / "SYSTEM").read_bytes())
    assert not merged.dirty and merged.find("ControlSet001\\Enum\\PCI\\AHCI\\1") is not None
    assert json.loads((out / "plan.json").read_text())["edits"]
    assert [snapshot(tree) for tree in trees[:2]] == before
    assert call(capsys, trees, "--output", out)[0] == 2, "the directory is not empty"


def test_an_inhibitor_stops_before_anything_changes(trees: tuple[Path, Path, Path], capsys: Any) -> None:
    source, _ = pair()
    source.letter("E", bytes(12))
    grow(source, trees[0])
    before = snapshot(trees[0])
    assert call(capsys, trees, "--dry-run")[0] == 3
    code, told = call(capsys, trees, "--in-place")
    assert code == 3 and told["error"] == "inhibitor" and "--letter E=" in told["remedy"]
    assert snapshot(trees[0]) == before
    assert call(capsys, trees, "--dry-run", "--letter", "E=none")[0] == 0
    assert call(capsys, trees, "--dry-run", "--ignore", "letter-unmapped-e")[0] == 0


def test_a_boot_file_of_one_machine_in_a_place_of_its_own_is_looked_for(tmp_path: Path, capsys: Any) -> None:
    source, target = pair()
    source.service("snapman", image="\\??\\C:\\Snap\\snapman.sys", file=False)
    trees = grow(source, tmp_path / "s"), grow(target, tmp_path / "t"), tmp_path / "state"
    code, told = call(capsys, trees, "--dry-run")
    assert code == 0 and "boot-drivers/snapman" in {edit["id"] for edit in told["edits"]}, "there is no such file"
    put(trees[0] / "Snap/snapman.sys", b"x")
    code, told = call(capsys, trees, "--dry-run")
    assert code == 0 and "boot-drivers/snapman" not in {edit["id"] for edit in told["edits"]}
    (trees[0] / "Snap/snapman.sys").unlink()
    rules = tmp_path / "rules.toml"
    rules.write_text('skip = ["boot-drivers/snapman"]')
    code, told = call(capsys, trees, "--dry-run", "--rules", rules)
    assert code == 3 and "boot-file-missing" in {finding["id"] for finding in told["findings"]}


def test_the_rules_file_overrides(trees: tuple[Path, Path, Path], capsys: Any, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('skip = ["boot-drivers/*", "nosuch"]\n')
    code, told = call(capsys, trees, "--dry-run", "--rules", rules)
    assert code == 0 and [s["id"] for s in told["skipped"]] == ["boot-drivers/pvscsi"]
    assert "rule-without-effect" in {f["id"] for f in told["findings"]}


def test_a_rule_that_breaks_the_system_is_found(trees: tuple[Path, Path, Path], capsys: Any, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('skip = ["services/megaraid", "driver-files/megaraid"]\n')
    code, told = call(capsys, trees, "--dry-run", "--rules", rules)
    assert code == 3
    assert {"enum-service-missing"} <= {f["id"] for f in told["findings"] if f["level"] == "inhibitor"}


@pytest.mark.parametrize(
    "words",
    [
        ["--letter", "E"],
        ["--letter", "E=F", "--letter", "E=G"],
        ["--nic", "=x"],
        ["--rules", "/nosuch.toml"],
        ["--target-bcd", "/no"],
    ],
)
def test_usage(trees: tuple[Path, Path, Path], capsys: Any, words: list[str]) -> None:
    assert call(capsys, trees, "--dry-run", *words)[0] == 2


def test_trees_must_be_two_and_windows(trees: tuple[Path, Path, Path], capsys: Any, tmp_path: Path) -> None:
    source, _, state = trees
    assert call(capsys, (source, source, state), "--dry-run")[0] == 2
    assert call(capsys, (source, tmp_path, state), "--dry-run")[0] == 2
    put(tmp_path / "empty/x", b"")
    assert call(capsys, (source, tmp_path / "empty", state), "--dry-run")[0] == 2


def test_names_on_disk_may_be_spelled_in_any_case(tmp_path: Path, capsys: Any) -> None:
    source, target = pair()
    old = grow(source, tmp_path / "source")
    (old / "Windows/System32/drivers").rename(old / "Windows/System32/DRIVERS")
    (old / "Windows/System32").rename(old / "Windows/system32")
    (old / "Windows/system32/config/SYSTEM").rename(old / "Windows/system32/config/system")
    trees = old, grow(target, tmp_path / "target"), tmp_path / "state"
    before = snapshot(old)
    assert call(capsys, trees, "--in-place")[0] == 0
    assert (old / "Windows/system32/DRIVERS/megaraid.sys").exists()
    assert sorted(path.name for path in (old / "Windows").iterdir()) == ["INF", "system32"]
    assert call(capsys, trees, "--undo")[0] == 0 and snapshot(old) == before


def test_real_hives_as_trees(tmp_path: Path, capsys: Any) -> None:
    """10 1709 onto 1903, with the refusals for build and dirt waived: merged, written, read back, consistent."""
    need_hives()
    for side, name in (("source", "SYSTEM_B"), ("target", "SYSTEM_WIN_10_1709")):
        root = tmp_path / side
        for file in machine(name).files:
            put(respelled(root, file.path), file.digest.encode())
        put(respelled(root, "Windows/System32/config/SYSTEM"), unpack(name))
        if side == "source":
            for log in ("LOG1", "LOG2"):
                put(respelled(root, f"Windows/System32/config/SYSTEM.{log}"), unpack(f"SYSTEM_B.{log}"))
        put(
            respelled(root, "Windows/System32/config/SOFTWARE"),
            write_hive(software(16299 if side == "source" else 18362)),
        )
        put(root / "Boot/BCD", write_hive(hive("BCD")))
    trees = tmp_path / "source", tmp_path / "target", tmp_path / "state"
    where = "--output", tmp_path / "out", "--letter", "F=none"
    code, told = call(capsys, trees, *where, "--ignore", "build-differs", "--ignore", "dirty-hive-target")
    assert code == 0, told
    merged = read_hive((tmp_path / "out/SYSTEM").read_bytes())
    assert merged.counts()[0] > 30_000 and not merged.dirty
