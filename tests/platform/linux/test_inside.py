"""Programs of the staged system run in its root, see this machine's devices, and leave no mount behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from livelift.adapt.changes import RunCommand
from livelift.adapt.plan import Edit, Plan
from livelift.edits.editor import Editor
from livelift.errors import CommandError
from livelift.platform.linux.inside import run_inside

pytestmark = pytest.mark.root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small system: this machine's sh, cat and ls with their libraries."""
    place = tmp_path / "staged"
    for name in ("proc", "sys", "dev", "run", "tmp", "etc", "bin"):
        (place / name).mkdir(parents=True)
    wanted = ["/bin/sh", "/bin/cat", "/bin/ls", "/bin/touch"]
    for program in wanted:
        shutil.copy2(program, place / "bin")
        told = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for word in told.split():
            if word.startswith("/") and not (place / word[1:]).exists():
                (place / word[1:]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(word, place / word[1:])
    (place / "etc/mark").write_text("inside\n")
    return place


def run(root: Path, *arguments: str, seconds: float = 30) -> str:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return run_inside(fd, arguments, seconds)
    finally:
        os.close(fd)


def test_a_program_sees_the_staged_root_and_this_machine(root: Path) -> None:
    assert run(root, "cat", "/etc/mark") == "inside\n"
    assert "null" in run(root, "ls", "/dev").split()
    assert run(root, "ls", "/run") == ""
    assert any(line.split()[4] == "/" for line in run(root, "cat", "/proc/self/mountinfo").splitlines()), (
        "a mount point"
    )


def test_no_mount_is_left(root: Path) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    run(root, "touch", "/run/x", "/etc/y")
    assert str(root) not in Path("/proc/self/mountinfo").read_text()
    assert len(Path("/proc/self/mountinfo").read_text().splitlines()) == len(before.splitlines())
    assert list((root / "run").iterdir()) == [] and (root / "etc/y").exists()


def test_what_a_program_inherits_outlives_who_has_started_it(root: Path, tmp_path: Path) -> None:
    """A lock, for one: it is held until the last process that has it has ended."""
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    # what it leaves behind waits at a pipe (a name in the staged root) until it is written to
    os.mkfifo(root / "pipe")
    run_inside(fd, ("sh", "-c", "(exec >/dev/null 2>&1; read word </pipe) &"), 30, (lock,))
    run_inside(fd, ("sh", "-c", "exit 0"), 30)
    os.close(lock)
    os.close(fd)
    again = os.open(tmp_path / "lock", os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    (root / "pipe").write_text("end\n")
    fcntl.flock(again, fcntl.LOCK_EX)
    os.close(again)


def test_failures_are_told(root: Path) -> None:
    with pytest.raises(CommandError, match="ended with 127"):
        run(root, "no-such-program")
    with pytest.raises(CommandError, match="cat: /none"):
        run(root, "cat", "/none")
    with pytest.raises(CommandError, match="longer than 1 s"):
        run(root, "sh", "-c", "while :; do :; done", seconds=1)


def test_a_mount_point_that_is_a_symlink_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "proc").rmdir()
    (root / "proc").symlink_to(tmp_path)
    with pytest.raises(CommandError):
        run(root, "cat", "/etc/mark")


def test_a_command_of_a_plan(root: Path, tmp_path: Path) -> None:
    (root / "etc/image").write_text("old")
    change = RunCommand(("sh", "-c", "cat /etc/mark >/etc/image; cat /etc/mark >/etc/new"), ("etc/image", "etc/new"))
    edit = Editor(str(root), str(tmp_path), str(tmp_path / "state"))
    edit.apply(Plan("", (Edit("x", "y", change),)))
    assert (root / "etc/image").read_text() == "inside\n" == (root / "etc/new").read_text()
    edit.undo()
    edit.close()
    assert (root / "etc/image").read_text() == "old" and not (root / "etc/new").exists()
