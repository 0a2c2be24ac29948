"""Plans are carried out in a staged tree and taken back exactly, also after death at every system call."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from livelift.adapt.changes import (
    Change,
    CopyFile,
    CopyTree,
    DeleteFile,
    MakeLink,
    RenameFile,
    RunCommand,
    SetValue,
    WriteFile,
)
from livelift.adapt.plan import Edit, Plan
from livelift.edits.editor import Editor
from livelift.edits.journal import NAME
from livelift.errors import CorruptError, LockedError, StateError, UsageError
from livelift.platform.linux import files
from tests.edits.killer import run_until
from tests.edits.snapshot import snapshot
from tests.facts.tree import plant
from tests.loopfs import loop_filesystem

CHANGES: list[Change] = [
    CopyFile("boot/vmlinuz-new", "boot/vmlinuz-new", 6),
    CopyTree("lib/modules/new", "lib/modules/new", 3, 7),
    WriteFile("etc/fstab", b"new table\n"),
    WriteFile("etc/deep/er/file", b"in new directories\n", 0o600),
    WriteFile("etc/linked", b"no longer linked\n"),
    DeleteFile("etc/gone"),
    DeleteFile("etc/never-there"),
    RenameFile("boot/grub", "boot/grub.source"),
    CopyTree("boot/grub", "boot/grub", 1, 4),
    WriteFile("boot/grub/grub.cfg", b"menu\n"),
    MakeLink("etc/unit", "/dev/null"),
    MakeLink("etc/link", "new-text"),
    RunCommand(("build",), ("boot/initrd", "etc/made", "boot/grub/grubenv")),
    WriteFile("etc/fstab", b"newer table\n"),
]


def plan(*changes: Change) -> Plan:
    return Plan("test", tuple(Edit(f"edit/{n}", "because", change) for n, change in enumerate(changes)))


def build(root_fd: int, arguments: tuple[str, ...]) -> str:
    """A program that writes one file in place, replaces none, and makes two."""
    assert arguments == ("build",)
    with open(f"/proc/self/fd/{root_fd}/boot/initrd", "r+b") as file:
        file.write(b"NEW")
    for name in ("etc/made", "boot/grub/grubenv"):
        Path(f"/proc/self/fd/{root_fd}/{name}").write_bytes(b"made")
    return ""


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    root = plant(
        tmp_path / "staged",
        {
            "/etc/fstab": "old table\n",
            "/etc/gone": "gone\n",
            "/etc/linked": "shared\n",
            "/etc/unit": "[Unit]\n",
            "/etc/link": "-> old-text",
            "/boot/grub/grub.cfg": "old menu\n",
            "/boot/initrd": "initrd",
            "/usr/lib/modules": None,
            "/lib": "-> usr/lib",
        },
    )
    os.link(root / "etc/linked", root / "etc/other-name")
    os.chmod(root / "etc/fstab", 0o640)
    with contextlib.suppress(OSError):  # tmpfs before Linux 6.6 has none
        os.setxattr(root / "etc/fstab", "user.mark", b"1")
    target = plant(
        tmp_path / "target",
        {
            "/boot/vmlinuz-new": "kernel",
            "/lib/modules/new/a.ko": "abc",
            "/lib/modules/new/sub/b.ko": "defg",
            "/lib/modules/new/link": "-> a.ko",
            "/boot/grub/core.img": "core",
        },
    )
    os.chmod(target / "boot/vmlinuz-new", 0o600)
    for path in [*root.rglob("*"), root]:
        os.utime(path, ns=(10**18, 10**18), follow_symlinks=False)
    return tmp_path


def editor(trees: Path) -> Editor:
    return Editor(str(trees / "staged"), str(trees / "target"), str(trees / "state"), build)


@pytest.fixture
def edit(trees: Path) -> Iterator[Editor]:
    found = editor(trees)
    yield found
    found.close()


def test_everything_is_made_and_taken_back(trees: Path, edit: Editor) -> None:
    root, before = trees / "staged", snapshot(trees / "staged")
    marks = os.listxattr(root / "etc/fstab")
    assert edit.apply(plan(*CHANGES)) == len(CHANGES)
    assert (root / "etc/fstab").read_text() == "newer table\n"
    assert os.stat(root / "etc/fstab").st_mode & 0o777 == 0o640, "the mode of the file that was replaced"
    assert os.listxattr(root / "etc/fstab") == marks
    assert os.stat(root / "boot/vmlinuz-new").st_mode & 0o777 == 0o600, "the mode of the origin"
    assert (root / "usr/lib/modules/new/sub/b.ko").read_text() == "defg", "through the link lib"
    assert os.readlink(root / "lib/modules/new/link") == "a.ko"
    assert (root / "etc/other-name").read_text() == "shared\n", "the other name keeps the old content"
    assert not (root / "etc/gone").exists()
    assert (root / "boot/grub.source/grub.cfg").read_text() == "old menu\n"
    assert (root / "boot/grub/core.img").exists() and (root / "boot/grub/grub.cfg").read_text() == "menu\n"
    assert os.readlink(root / "etc/unit") == "/dev/null" and os.readlink(root / "etc/link") == "new-text"
    assert (root / "boot/initrd").read_bytes() == b"NEWtrd" and (root / "etc/made").exists()
    assert edit.undo() > len(CHANGES) - 2
    assert snapshot(root) == before
    assert edit.undo() == 0


def test_a_second_run_makes_nothing_and_another_plan_is_refused(edit: Editor) -> None:
    assert edit.apply(plan(*CHANGES)) == len(CHANGES)
    assert edit.apply(plan(*CHANGES)) == 0
    with pytest.raises(StateError):
        edit.apply(plan(*CHANGES[1:]))
    with pytest.raises(StateError):
        edit.apply(plan())


def test_a_plan_that_has_changed_is_applied_after_the_old_one_is_taken_back(trees: Path, edit: Editor) -> None:
    before = snapshot(trees / "staged")
    edit.apply(plan(*CHANGES))
    edit.undo()
    edit.apply(plan(WriteFile("etc/fstab", b"another\n")))
    assert (trees / "staged/etc/fstab").read_text() == "another\n"
    edit.undo()
    assert snapshot(trees / "staged") == before


def test_the_source_s_version_is_in_the_keep(trees: Path, edit: Editor) -> None:
    edit.apply(plan(*CHANGES[2:4]))
    assert (trees / "staged" / edit.kept("etc/fstab")).read_text() == "old table\n"
    assert edit.kept("etc/deep/er/file") == "" == edit.kept("etc/unit")


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated death loses nothing that was written, so the disk need not be waited for, hundreds of times."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda fd: None)
    monkeypatch.setattr(files, "syncfs", lambda fd: None)


@pytest.mark.usefixtures("no_sync")
def test_death_at_every_call_of_apply(trees: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each: going on reaches the same result; and taking back reaches the beginning."""
    root, before = trees / "staged", snapshot(trees / "staged")
    whole = editor(trees)
    whole.apply(plan(*CHANGES))
    result = contents(root)
    whole.undo()
    whole.close()
    at, finished = 0, False
    while not finished:
        first = editor(trees)
        finished = run_until(monkeypatch, at, lambda e=first: e.apply(plan(*CHANGES)))  # type: ignore[misc]
        first.close()
        again = editor(trees)
        if at % 2:
            again.apply(plan(*CHANGES))
            assert contents(root) == result, at
        again.undo()
        again.close()
        assert without_root_time(snapshot(root)) == without_root_time(before), at
        at += 1
    assert at > 150, "the calls were counted"


@pytest.mark.usefixtures("no_sync")
def test_death_at_every_call_of_undo(trees: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, before = trees / "staged", snapshot(trees / "staged")
    whole = editor(trees)
    whole.apply(plan(*CHANGES))
    result = contents(root)
    whole.undo()
    whole.close()
    at, finished = 0, False
    while not finished:
        first = editor(trees)
        first.apply(plan(*CHANGES))
        finished = run_until(monkeypatch, at, first.undo)
        first.close()
        again = editor(trees)
        if at % 2:
            again.apply(plan(*CHANGES))
            assert contents(root) == result, at
        again.undo()
        again.close()
        assert without_root_time(snapshot(root)) == without_root_time(before), at
        at += 1
    assert at > 60


def contents(root: Path) -> dict[str, Any]:
    """Without times, which differ from run to run, and without the keep."""
    found = {p: (v if p == "hard links" else (*v[:4], *v[5:])) for p, v in snapshot(root).items()}
    found["hard links"] = [[p for p in group if not p.startswith(".livelift-kept")] for group in found["hard links"]]
    return {p: v for p, v in found.items() if not p.startswith(".livelift-kept")}


def without_root_time(found: dict[str, Any]) -> dict[str, Any]:
    """Death between making the keep and noting the root's times loses these, and nothing else."""
    return {**found, ".": found["."][:4]}


@pytest.mark.parametrize("target", ["outside", "../../outside", "/../outside"])
def test_a_symlink_never_leads_out(trees: Path, edit: Editor, target: str) -> None:
    outside = trees / "outside"
    outside.mkdir()
    (outside / "file").write_text("untouched")
    link = trees / "staged/etc/out"
    link.symlink_to(target if "/" in target else outside)
    for change in (WriteFile("etc/out/file", b"x"), CopyFile("etc/out/file", "boot/vmlinuz-new", 6)):
        with pytest.raises(StateError, match="leads nowhere"):  # inside of the root it does
            edit.apply(plan(change))
        edit.undo()
    assert os.path.islink(link)
    assert [(p.name, p.read_text()) for p in outside.iterdir()] == [("file", "untouched")]


@pytest.mark.parametrize("path", ["/etc/x", "../x", "etc/../x", "etc//x", "", "./x"])
def test_paths_that_are_no_places(edit: Editor, path: str) -> None:
    with pytest.raises(UsageError):
        edit.apply(plan(WriteFile(path, b"")))


def test_origins_that_have_changed(edit: Editor) -> None:
    for change in (
        CopyFile("boot/a", "boot/vmlinuz-new", 5),
        CopyFile("boot/a", "boot/none", 5),
        CopyFile("boot/a", "boot/vmlinuz-new", 6, "0" * 64),
        CopyTree("lib/modules/new", "lib/modules/new", 3, 6),
        CopyTree("lib/modules/new", "lib/modules/new", 2, 7),
    ):
        with pytest.raises(CorruptError):
            edit.apply(plan(change))
        edit.undo()


def test_what_does_not_fit_the_tree(edit: Editor) -> None:
    for change in (
        WriteFile("boot/grub", b"a directory stands there"),
        RenameFile("etc/none", "etc/x"),
        RenameFile("etc/gone", "etc/fstab"),
        SetValue("SYSTEM", "Select", "Current", 4, b""),
    ):
        with pytest.raises(StateError):
            edit.apply(plan(change))
        edit.undo()


def test_one_at_a_time(trees: Path, edit: Editor) -> None:
    with pytest.raises(LockedError):
        editor(trees)


def test_a_cut_line_is_forgotten_and_a_damaged_one_is_not(trees: Path, edit: Editor) -> None:
    edit.apply(plan(*CHANGES[:3]))
    edit.close()
    path = trees / "state" / NAME
    raw = path.read_bytes()
    path.write_bytes(raw + b'00000000 {"rec')
    again = editor(trees)
    assert again.apply(plan(*CHANGES[:3])) == 0
    assert path.read_bytes() == raw
    again.close()
    path.write_bytes(raw[:20] + b"X" + raw[21:])
    with pytest.raises(CorruptError):
        editor(trees)
    path.write_bytes(raw)
    edit.__init__(str(trees / "staged"), str(trees / "target"), str(trees / "state"), build)  # type: ignore[misc]


@pytest.mark.root
def test_a_file_system_of_its_own_in_the_staged_tree(trees: Path, edit: Editor) -> None:
    """/boot is separate: its originals stay on it, for a rename does not leave a file system."""
    boot = trees / "staged/boot"
    with loop_filesystem("ext4", 8) as disk:
        shutil.copytree(boot, disk / "b", symlinks=True)
        subprocess.run(["mount", "--bind", str(disk / "b"), str(boot)], check=True)
        try:
            before = snapshot(trees / "staged")
            edit.apply(plan(*CHANGES))
            assert list((boot / ".livelift-kept").iterdir()) and list((trees / "staged/.livelift-kept").iterdir())
            assert (boot / "grub/core.img").exists() and (boot / "initrd").read_bytes() == b"NEWtrd"
            edit.undo()
            assert snapshot(trees / "staged") == before
        finally:
            subprocess.run(["umount", str(boot)], check=True)
