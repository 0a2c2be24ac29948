"""Hooks are real files that are really run."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from livelift.errors import ProgramError, UsageError
from livelift.hooks.hooks import Hooks, answer


def place(root: Path, step: str, name: str, text: str, mode: int = 0o755) -> Path:
    path = root / step / name
    path.parent.mkdir(exist_ok=True, mode=0o755)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(mode)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "hooks.d"
    made.mkdir(mode=0o755)
    return made


def hooks(root: Path, seconds: float = 10.0) -> Hooks:
    return Hooks(str(root), "4711", "source", seconds)


def test_in_the_order_of_their_names_and_with_the_job_in_the_environment(root, tmp_path, caplog):
    place(root, "fence.before.d", "20-second", f"env | grep ^LIVELIFT_ | sort > {tmp_path}/env; echo said")
    place(root, "fence.before.d", "10-first", f"test ! -e {tmp_path}/env")
    place(root, "fence.after.d", "10-other", "exit 1")
    with caplog.at_level(logging.INFO):
        assert hooks(root).run("fence", "before", "following") == ["10-first", "20-second"]
    assert (tmp_path / "env").read_text().splitlines() == [
        "LIVELIFT_ERROR=",
        "LIVELIFT_JOB=4711",
        "LIVELIFT_SIDE=source",
        "LIVELIFT_STATE=following",
        "LIVELIFT_STEP=fence",
        "LIVELIFT_WHEN=before",
    ]
    assert "hook 20-second: said" in caplog.text


def test_one_that_fails_ends_it_and_says_what_it_printed(root, tmp_path):
    place(root, "cut.before.d", "1", "echo the backup is still running >&2; exit 3")
    place(root, "cut.before.d", "2", f"touch {tmp_path}/ran")
    with pytest.raises(ProgramError, match=r"hook .*cut.before.d/1 ended with 3: the backup is still running"):
        hooks(root).run("cut", "before", "verifying")
    assert not (tmp_path / "ran").exists()


def test_the_time_limit_holds_for_all_that_it_started(root, tmp_path):
    place(root, "cut.before.d", "1", f"sleep 3600 & echo $! > {tmp_path}/pid; sleep 3600")
    began = time.monotonic()
    with pytest.raises(ProgramError, match=r"took longer than 0\.5 s"):
        hooks(root, 0.5).run("cut", "before", "verifying")
    assert time.monotonic() - began < 5
    stat = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    deadline = time.monotonic() + 5
    while stat.exists() and stat.read_text().split(") ")[1][0] != "Z" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not stat.exists() or stat.read_text().split(") ")[1][0] == "Z"


def test_a_daemon_that_it_leaves_behind_is_not_waited_for(root):
    place(root, "cut.after.d", "1", "sleep 3 &\nexit 0")
    began = time.monotonic()
    hooks(root).run("cut", "after", "cut")
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("name", ["10-x~", "10-x.dpkg-old", ".10-x", "README.txt"])
def test_what_an_editor_or_a_package_manager_leaves_is_no_hook(root, name):
    place(root, "cut.after.d", name, "exit 1")
    assert hooks(root).run("cut", "after", "cut") == []
    assert hooks(root).listing() == {}


def test_the_listing_and_what_is_wrong_with_a_place(root):
    place(root, "fence.before.d", "10-a.sh", "")
    assert hooks(root).listing() == {"fence.before": ["10-a.sh"]}
    (root / "fense.before.d").mkdir()
    with pytest.raises(UsageError, match=r"fense.before.d: no step has this name") as found:
        hooks(root).listing()
    assert "hand-over" in found.value.remedy
    (root / "fense.before.d").rmdir()
    (root / "abort.before.d").mkdir()
    with pytest.raises(UsageError, match="abort is told afterwards"):
        hooks(root).listing()


def test_nothing_there_is_no_error(tmp_path):
    assert hooks(tmp_path / "none").listing() == {}
    assert hooks(tmp_path / "none").run("fence", "before", "following") == []


@pytest.mark.parametrize("loose", ["root", "place", "file"])
def test_what_others_can_write_is_never_run(root, tmp_path, loose):
    path = place(root, "cut.after.d", "1", f"touch {tmp_path}/ran")
    {"root": root, "place": path.parent, "file": path}[loose].chmod(0o777)
    with pytest.raises(UsageError, match="can be written by others"):
        hooks(root).run("cut", "after", "cut")
    assert not (tmp_path / "ran").exists()


def test_a_hook_that_cannot_be_run_is_said_and_not_passed_over(root):
    place(root, "cut.after.d", "1", "", mode=0o644)
    with pytest.raises(UsageError, match="not executable"):
        hooks(root).run("cut", "after", "cut")
    os.unlink(root / "cut.after.d/1")
    path = root / "cut.after.d/2"
    path.write_text("#!/no/such/interpreter\n")
    path.chmod(0o755)
    with pytest.raises(ProgramError, match="No such file"):
        hooks(root).run("cut", "after", "cut")


@pytest.mark.parametrize("fails", [False, True])
def test_a_question_that_is_asked_again_runs_nothing_again(root, tmp_path, fails):
    place(root, "arm.before.d", "1", f"echo x >> {tmp_path}/log; exit {int(fails)}")
    target = hooks(root)

    def ask(**key: str) -> object:
        try:
            return answer(target, {"step": "arm", "when": "before", **key})
        except ProgramError as error:
            return error.args

    first = ask(key="a")
    assert ask(key="a") == first and (tmp_path / "log").read_text() == "x\n"
    ask(key="b")
    ask()
    ask()
    assert (tmp_path / "log").read_text() == "x\n" * 4


def test_the_target_answers_what_the_source_asks(root):
    place(root, "arm.before.d", "1", "")
    assert answer(hooks(root), {"step": "arm", "when": "before", "state": "cut"}) == {"ran": ["1"]}
    assert answer(hooks(root), {}) == {"listing": {"arm.before": ["1"]}}
    for options in ({"step": "../etc", "when": "before"}, {"step": "arm", "when": "during"}, {"step": "arm"}):
        with pytest.raises(UsageError):
            answer(hooks(root), options)
