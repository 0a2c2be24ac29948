"""livelift hive: what it prints, what it refuses, and that no file is left half written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from livelift.cli import hive_files
from livelift.cli.hive_files import logs_beside
from livelift.cli.hive_text import plain, time_of
from livelift.cli.main import main
from livelift.registry.reader import read_hive
from livelift.registry.tree import Hive, Key
from livelift.registry.values import set_list, set_number, set_text
from livelift.registry.writer import write_hive
from tests.registry.hives import real
from tests.registry.raw import sealed
from tests.registry.test_logs import DIRTY, entry, log, new


def system() -> Hive:
    root = Key("ROOT", 132_000_000_000_000_000, b"s" * 20)
    set_number(root.make("Select"), "Current", 1)
    disk = root.make("ControlSet001\\Services\\disk")
    set_number(disk, "Start", 0)
    set_text(disk, "", "default")
    set_list(disk, "Owners", ["a.inf", "b.inf"])
    disk.set("Raw", 0xFFFF0012, bytes(100))
    disk.make("Enum\\deeper").class_name = b"c\0"
    return Hive(root, 5, "SYSTEM")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "SYSTEM"
    path.write_bytes(write_hive(system()))
    path.chmod(0o640)
    return path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["hive", *map(str, words)])
    told = capsys.readouterr()
    return code, told.out, told.err


def objects(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_a_key_is_shown(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", file, "\\currentcontrolset\\services\\DISK\\")
    assert code == 0
    assert out.splitlines() == [
        "[ControlSet001\\services\\DISK]  2019-04-17T18:40:00Z",
        "  Start  REG_DWORD  0x0",
        '  (default)  REG_SZ  "default"',
        '  Owners  REG_MULTI_SZ  "a.inf", "b.inf"',
        "  Raw  0xffff0012  " + " ".join(["00"] * 32) + " ... (100 bytes)",
        "  Enum\\",
    ]
    code, out, _ = run(capsys, "show", file, "ControlSet001", "-r")
    assert [line for line in out.splitlines() if line.startswith("[")][-1].startswith(
        "[ControlSet001\\Services\\disk\\Enum\\deeper]"
    )


def test_json_holds_everything(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", file, "--recursive", "--json")
    keys = {key["path"]: key for key in objects(out)}
    assert code == 0 and len(keys) == 7
    disk = keys["ControlSet001\\Services\\disk"]
    assert disk["subkeys"] == ["Enum"] and disk["security"] == "73" * 20
    assert keys["ControlSet001\\Services\\disk\\Enum\\deeper"]["class"] == "6300"
    values = {value["name"]: value for value in disk["values"]}
    assert values["Start"]["number"] == 0 and values[""]["text"] == "default"
    assert values["Owners"]["list"] == ["a.inf", "b.inf"]
    assert (values["Raw"]["type"], values["Raw"]["data"]) == (0xFFFF0012, "00" * 100)


def test_a_key_that_is_not_there(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "show", file, "ControlSet001\\Servicez\\x")
    assert (code, out) == (2, "") and "nearest that it has is ControlSet001" in err


def test_reg_text_goes_out_and_in(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, fresh = tmp_path / "all.reg", tmp_path / "NEW"
    assert run(capsys, "show", file, "-r", "--reg", "-o", text)[0] == 0
    assert text.read_bytes()[:2] == b"\xff\xfe"
    fresh.write_bytes(write_hive(Hive(Key("ROOT", 1, b"s" * 20))))
    code, out, _ = run(capsys, "merge", fresh, text, "-o", tmp_path / "OUT", "--prefix", "HKLM\\SYSTEM", "--json")
    assert code == 0 and objects(out)[0]["differences"] == 11
    code, out, _ = run(capsys, "diff", file, tmp_path / "OUT", "--json")
    assert code == 5
    assert [(d["path"], d["aspects"]) for d in objects(out)] == [
        ("ControlSet001\\Services\\disk\\Enum\\deeper", ["class"])
    ], ".reg text has no class names"
    code, out, _ = run(capsys, "show", file, "Select", "--reg")
    assert out.splitlines() == [
        "Windows Registry Editor Version 5.00",
        "",
        "[HKEY_LOCAL_MACHINE\\SYSTEM\\Select]",
        '"Current"=dword:00000001',
        "",
    ]


def test_diff(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "OTHER"
    hive = system()
    disk = hive.root.make("ControlSet001\\Services\\disk")
    set_number(disk, "Start", 4)
    disk.remove("Enum")
    hive.root.make("Select").security = b"t" * 20
    hive.root.timestamp = 5
    other.write_bytes(write_hive(hive))
    assert run(capsys, "diff", file, file) == (0, "", "")
    code, out, _ = run(capsys, "diff", file, other)
    assert code == 5
    assert out.splitlines() == [
        "- ControlSet001\\Services\\disk: Start  REG_DWORD  0x0",
        "+ ControlSet001\\Services\\disk: Start  REG_DWORD  0x4",
        "- ControlSet001\\Services\\disk\\Enum",
        "- ControlSet001\\Services\\disk\\Enum\\deeper",
        "~ Select  (security)",
    ]
    _, out, _ = run(capsys, "diff", file, other, "--timestamps", "--json")
    assert objects(out)[0] == {
        "change": "changed", "path": "", "value": None, "aspects": ["timestamp"],
        "old": {"timestamp": "2019-04-17T18:40:00Z"}, "new": {"timestamp": time_of(5)},
    }  # fmt: skip


def changes(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "changes.reg"
    path.write_text("Windows Registry Editor Version 5.00\n\n" + text)
    return path


def test_a_dry_run_writes_nothing(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = file.read_bytes()
    text = changes(tmp_path, '[HKLM\\SYSTEM\\CurrentControlSet\\Services\\disk]\n"Start"=dword:4\n')
    code, out, _ = run(capsys, "merge", file, text, "--dry-run")
    assert code == 0 and out.splitlines()[-1] == "+ ControlSet001\\Services\\disk: Start  REG_DWORD  0x4"
    assert file.read_bytes() == before and len(list(tmp_path.iterdir())) == 2


def test_changes_in_place_keep_the_old_hive_and_its_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, log = tmp_path / "Hive", tmp_path / "hive.log1"
    file.write_bytes(DIRTY)
    file.chmod(0o640)
    log.write_bytes(new(7, 1, 2))
    text = changes(tmp_path, '[HKLM\\HIVE\\New]\n"v"="1"\n')
    code, out, _ = run(capsys, "merge", file, text, "--in-place", "--json")
    assert code == 0
    assert objects(out)[0]["kept"] == [str(file) + ".backup1", str(log) + ".backup1"]
    assert (tmp_path / "Hive.backup1").read_bytes() == DIRTY
    assert (tmp_path / "hive.log1.backup1").read_bytes() == new(7, 1, 2)
    assert not log.exists() and file.stat().st_mode & 0o777 == 0o640
    hive = read_hive(file.read_bytes())
    assert not hive.dirty and hive.find("New") is not None
    assert next(hive.root.values).data == b"\2\0\0\0", "with what was only in the log"
    assert run(capsys, "merge", file, text, "--in-place")[0] == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "Hive", "Hive.backup1", "Hive.backup2", "hive.log1.backup1", "changes.reg",
    }  # fmt: skip


def test_in_place_through_a_link_and_beside_older_copies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    file, link = folder / "H", tmp_path / "link"
    file.write_bytes(DIRTY)
    (folder / "H.LOG1").write_bytes(new(7, 1, 2))
    (folder / "h.log1.BACKUP1").write_bytes(b"precious")
    link.symlink_to(file)
    code, out, _ = run(capsys, "merge", link, changes(tmp_path, "[HKLM\\LINK\\New]\n"), "--in-place", "--json")
    assert code == 0 and objects(out)[0]["kept"] == [str(file) + ".backup2", str(folder / "H.LOG1.backup2")]
    assert link.is_symlink() and read_hive(file.read_bytes()).find("New") is not None
    assert (folder / "h.log1.BACKUP1").read_bytes() == b"precious"


def test_a_failed_write_leaves_all_as_it_was(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file.read_bytes()

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hive_files.os, "fsync", no_space)
    text = changes(tmp_path, "[HKLM\\SYSTEM\\New]\n")
    code, _, err = run(capsys, "merge", file, text, "-o", tmp_path / "OUT")
    assert code == 2 and "No space left" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["SYSTEM", "changes.reg"]
    assert run(capsys, "merge", file, text, "--in-place")[0] == 2
    assert file.read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".livelift")]


def test_keys_of_another_hive(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other, out = tmp_path / "OTHER", tmp_path / "OUT"
    hive = system()
    set_number(hive.root.make("ControlSet001\\Services\\vioscsi", 7), "Start", 0)
    hive.root.make("ControlSet001\\Services\\vioscsi").security = b"v" * 20
    hive.root.make("ControlSet001\\Services\\disk").remove("Enum")
    set_number(hive.root.make("ControlSet001\\Services\\disk"), "Tag", 9)
    other.write_bytes(write_hive(hive))
    paths = ["--path", "CurrentControlSet\\Services\\vioscsi", "ControlSet001\\Services\\disk"]
    assert run(capsys, "merge", file, "--from", other, *paths, "-o", out)[0] == 0
    merged = read_hive(out.read_bytes())
    driver = merged.find("ControlSet001\\Services\\vioscsi")
    assert driver is not None and (driver.security, driver.timestamp) == (b"v" * 20, 7)
    disk = merged.find("ControlSet001\\Services\\disk")
    assert disk is not None and disk.value("Tag") is not None and disk.get("Enum") is not None, "united"
    assert run(capsys, "merge", file, "--from", other, *paths, "--replace", "-o", out)[0] == 0
    disk = read_hive(out.read_bytes()).find("ControlSet001\\Services\\disk")
    assert disk is not None and disk.get("Enum") is None, "replaced"


def test_each_hive_has_its_own_current_control_set(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, out = tmp_path / "OTHER", tmp_path / "OUT"
    hive = Hive(Key("ROOT", 1, b"s" * 20))
    set_number(hive.root.make("Select"), "Current", 3)
    hive.root.make("ControlSet003\\Services\\new\\below")
    other.write_bytes(write_hive(hive))
    words = ["merge", file, "--from", other, "--path", "\\CurrentControlSet\\Services\\new", "-o", out]
    assert run(capsys, *words)[0] == 0
    merged = read_hive(out.read_bytes())
    assert merged.find("ControlSet001\\Services\\new\\below") is not None
    assert merged.find("ControlSet003") is None
    assert run(capsys, "merge", file, "--from", other, "--path", "\\", "--replace", "-o", out)[0] == 0
    assert run(capsys, "diff", other, out) == (0, "", "")


def test_usage(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = changes(tmp_path, "[HKLM\\SYSTEM\\New]\n")
    for words in (
        ["merge", file, "-o", tmp_path / "x"],
        ["merge", file, text, "--from", file, "--path", "a", "-o", tmp_path / "x"],
        ["merge", file, "--from", file, "-o", tmp_path / "x"],
        ["merge", file, text, "--path", "a", "-o", tmp_path / "x"],
        ["merge", file, text],
        ["merge", file, text, "-o", tmp_path / "x", "--in-place"],
        ["merge", file, text, "-o", file],
        ["merge", file, text, "-o", text],
        ["merge", file, text, "-o", tmp_path / "no" / "folder"],
        ["merge", file, tmp_path / "nothing", "-o", tmp_path / "x"],
        ["show", tmp_path / "nothing"],
        ["show", tmp_path],
        ["show", file, "-o", tmp_path / "x"],
    ):
        code, _, err = run(capsys, *words)
        assert code == 2 and "what to do" in err, words
    assert sorted(path.name for path in tmp_path.iterdir()) == ["SYSTEM", "changes.reg"]


def test_a_dirty_hive_is_said_loudly_and_not_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, text = tmp_path / "H", changes(tmp_path, "[HKLM\\H\\New]\n")
    file.write_bytes(DIRTY)
    assert "DIRTY" in run(capsys, "show", file)[2]
    code, _, err = run(capsys, "merge", file, text, "-o", tmp_path / "OUT")
    assert code == 6 and "--accept-dirty" in err and not (tmp_path / "OUT").exists()
    assert run(capsys, "merge", file, text, "-o", tmp_path / "OUT", "--accept-dirty")[0] == 0
    (tmp_path / "H.LOG2").write_bytes(new(7, 1, 2))
    (tmp_path / "H.log").write_bytes(b"")
    code, out, err = run(capsys, "show", file)
    assert "generation  REG_DWORD  0x2" in out and "only .LOG2" in err and "DIRTY" not in err
    assert "generation  REG_DWORD  0x0" in run(capsys, "show", file, "--no-logs")[1]
    code, _, err = run(capsys, "merge", file, text, "-o", tmp_path / "h")
    assert code == 6 and "would lie beside" in err


def test_logs_are_found_in_any_case_and_in_their_order(tmp_path: Path) -> None:
    for name in ("Sys", "SYS.log2", "sys.LOG1", "Sys.log", "Sys.log1.backup1", "Sys2.LOG1"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "SYS.LOG").write_bytes(b"")
    names = [os.path.basename(name) for name in logs_beside(str(tmp_path / "Sys"))]
    assert names == ["sys.LOG1", "SYS.log2", "Sys.log"]


def test_check(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "check", file)
    assert code == 0 and out.splitlines()[-1] == "sound" and "7 keys, 5 values, 1 security" in out
    code, out, _ = run(capsys, "check", file, "--json")
    (found,) = objects(out)
    assert (code, found["ok"], found["state"], found["keys"], found["findings"]) == (0, True, "clean", 7, {})
    damaged = bytearray(file.read_bytes())
    at = damaged.index(b"lh\2\0")
    damaged[at + 8] ^= 1
    file.write_bytes(damaged)
    code, out, _ = run(capsys, "check", file)
    assert code == 4 and "the hash of subkey 'CONTROLSET001' is wrong" in out and out.endswith("NOT sound\n")
    damaged[at] ^= 1
    file.write_bytes(damaged)
    code, _, err = run(capsys, "check", file)
    assert code == 1 and f"cell at 0x{at - 4 - 4096:x}" in err


def test_check_of_a_dirty_hive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, whole = tmp_path / "H", write_hive(system())
    file.write_bytes(sealed(whole[:4] + b"\2" + whole[5:]))
    code, out, _ = run(capsys, "check", file)
    assert code == 4 and "\nDIRTY" in out and out.endswith("NOT sound\n")
    (tmp_path / "H.LOG1").write_bytes(log(1, entry(1, whole, [0]), root=32))
    code, out, _ = run(capsys, "check", file)
    assert code == 0 and "recovered, 1 log entries replayed" in out and "only .LOG1 is there" in out
    (tmp_path / "H.LOG2").write_bytes(log(2, entry(2, whole, [0]), root=32))
    code, out, _ = run(capsys, "check", file, "--json")
    assert code == 0 and objects(out)[0]["notes"] == [] and objects(out)[0]["log_entries"] == 2


def test_names_cannot_speak_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hive = system()
    evil = "\x1b[2J\n\u202e\ud800\x7f"
    hive.root.make(evil).set(evil, 1, (evil + "\0").encode("utf-16-le", "surrogatepass"))
    file, other = tmp_path / "H", tmp_path / "O"
    file.write_bytes(write_hive(hive))
    other.write_bytes(write_hive(system()))
    for words in (["show", file, "-r"], ["show", file], ["diff", other, file], ["show", file, "-r", "--json"]):
        _, out, _ = run(capsys, *words)
        assert "x1b" in out or "u001b" in out
        assert all(c.isprintable() or c == "\n" for c in out)
    code, out, err = run(capsys, "show", file, "-r", "--reg")
    assert (code, out) == (1, "") and "line break" in err
    assert plain("a\x1bb\u202e") == "a\\x1bb\\u202e" and plain("Größe") == "Größe"


def test_reg_text_is_exact_for_programs_and_safe_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hive = system()
    hive.root.make("a\x1b[2J ü")
    file = tmp_path / "H"
    file.write_bytes(write_hive(hive))
    words = ["show", file, "a\x1b[2J ü", "--reg"]
    assert "[HKEY_LOCAL_MACHINE\\H\\a\x1b[2J ü]\n" in run(capsys, *words)[1]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "[HKEY_LOCAL_MACHINE\\H\\a\\x1b[2J ü]\n" in run(capsys, *words)[1]
    monkeypatch.undo()
    hive.root.make("\ud800")
    file.write_bytes(write_hive(hive))
    code, out, err = run(capsys, "show", file, "-r", "--reg")
    assert (code, out) == (2, "") and "with -o" in err
    assert run(capsys, "show", file, "-r", "--reg", "-o", tmp_path / "x.reg")[0] == 0


def test_times() -> None:
    assert [time_of(0), time_of(116444736000000000), time_of(2**64 - 1)] == [
        "",
        "1970-01-01T00:00:00Z",
        "0x" + "f" * 16,
    ]


def test_a_real_hive_with_its_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("SYSTEM_B", "SYSTEM_B.LOG1", "SYSTEM_B.LOG2"):
        (tmp_path / name).write_bytes(real(name))
    code, out, _ = run(capsys, "check", tmp_path / "SYSTEM_B", "--json")
    (found,) = objects(out)
    assert (code, found["keys"], found["values"], found["log_entries"]) == (0, 35595, 78901, 24)
