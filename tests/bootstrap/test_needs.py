"""What both machines must have: everything missing is told at once, with what to do."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from livelift.bootstrap.jobs import Migration
from livelift.bootstrap.needs import SPARE, check
from livelift.errors import PreflightError, StateError

JOB = Migration("web", "root@old", "root@new", ("/srv=/srv",))
GOOD: dict[str, Any] = {
    "platform": "cp311-x86_64",
    "libc": ["glibc", "2.36"],
    "uid": 0,
    "free": SPARE + (1 << 20),
    "agent": "",
    "job": "",
    "running": False,
    "status": None,
    "missing": [],
}


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    path = tmp_path / "agent"
    manifest = {"python": ["3.11"], "platforms": {"cp311-x86_64": {"glibc": [2, 17]}}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
    return path


def test_what_is_there_passes(agent: Path) -> None:
    check(JOB, {"source": GOOD, "target": GOOD}, agent, "d")
    check(JOB, {"source": GOOD | {"job": "1"}, "target": GOOD | {"job": "1"}}, agent, "d")


def test_everything_is_told_at_once(agent: Path) -> None:
    bad = GOOD | {"platform": "cp311-riscv64", "uid": 1000, "free": 5 << 20, "missing": ["/srv"]}
    with pytest.raises(PreflightError) as caught:
        check(JOB, {"source": GOOD, "target": bad}, agent, "d")
    text = str(caught.value)
    for word in ("riscv64", "not root", "5 MiB free", "no directory /srv", "--sudo", "--base", "target root@new"):
        assert word in text
    assert "source root@old" not in text


def test_room_is_not_asked_for_twice(agent: Path) -> None:
    check(
        JOB, {"source": GOOD | {"free": SPARE, "agent": "d"}, "target": GOOD | {"free": 0, "running": True}}, agent, "d"
    )
    with pytest.raises(PreflightError):
        check(JOB, {"source": GOOD | {"free": SPARE}, "target": GOOD}, agent, "d")


@pytest.mark.parametrize(
    ("source", "target", "text"),
    [
        ({"job": "1"}, {"job": "2"}, "source belongs to job 1, the target to 2"),
        ({"job": "1"}, {}, "the target to none"),
        ({"status": {"state": "cut"}}, {}, "has been cut over"),
    ],
)
def test_states_that_do_not_go_on(agent: Path, source: dict[str, Any], target: dict[str, Any], text: str) -> None:
    with pytest.raises(StateError, match=text) as caught:
        check(JOB, {"source": GOOD | source, "target": GOOD | target}, agent, "d")
    assert "--job web" in caught.value.remedy
