"""Fences: the cgroup that is killed while frozen, and process trees that are stopped one by one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from livelift.demo.fence import ServiceGroup, descendants, hierarchy, signal_all, stop_tree
from livelift.errors import PreflightError

FAMILY = """
import subprocess, sys, time
words = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
child = subprocess.Popen(words, start_new_session=True)
time.sleep(60)
"""


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_children_with_sessions_of_their_own_are_stopped_too() -> None:
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        members = descendants(parent.pid)
        try:
            assert len(members) == 2
            assert sorted(stop_tree([parent.pid])) == sorted(members)
            assert [state_of(pid) for pid in members] == ["T", "T"]
        finally:
            signal_all(members, 9)


def test_stopping_what_has_ended_is_no_error() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert stop_tree([process.pid]) == [process.pid]


@pytest.mark.root
def test_group_has_its_members_from_the_first_instruction_and_dies_frozen() -> None:
    with contextlib.ExitStack() as undo:
        group = ServiceGroup(undo, os.getpid())
        command = [*group.enter, "sh", "-c", "sleep 60 & sleep 60 & wait"]
        with subprocess.Popen(command) as process:
            deadline = time.monotonic() + 10
            while len(group.members()) < 3:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            freeze, word = (group.path / "cgroup.freeze", "1")
            if not freeze.exists():
                freeze, word = (group.path / "freezer.state", "FROZEN")
            freeze.write_text(word)
            group.kill()
            assert group.members() == []
        assert process.returncode == -9
    assert not group.path.exists()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["cgroup.controllers"], "."),
        (["unified/cgroup.controllers", "freezer/cgroup.procs"], "unified"),
        (["freezer/cgroup.procs"], "freezer"),
    ],
)
def test_hierarchy_is_found(tmp_path: Path, files: list[str], expected: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert hierarchy(tmp_path) == tmp_path / expected


def test_no_hierarchy_is_an_inhibitor(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="freezer"):
        hierarchy(tmp_path)
