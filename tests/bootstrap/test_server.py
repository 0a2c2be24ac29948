"""The steps that only a whole server's move has, against machines that answer from a table."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from livelift.bootstrap import server
from livelift.bootstrap.jobs import Migration
from livelift.bootstrap.preview import preview
from livelift.bootstrap.steps import STEPS, Move
from livelift.checks.findings import Finding, Findings, Level
from livelift.errors import CommandError, PreflightError
from livelift.model.facts import FileSystem, ServerFacts
from tests.adapt.linux.trees import debian_new, debian_old, tree
from tests.machines import GIB, change, debian_source, debian_target


class Machine:
    """``answers``: first words of a command line to what it prints."""

    def __init__(self, facts: ServerFacts, files: dict[str, Any], missing: tuple[str, ...] = ()) -> None:
        self.answers: dict[str, str] = {
            "facts --json": msgspec.json.encode(facts).decode(),
            "facts --files": tree(files).to_json().decode(),
            "takeover install": json.dumps(Findings([]).to_dict()),
        }
        self.missing = missing
        self.asked: list[str] = []
        self.said: list[str] = []

    def run(self, words: list[str], text: str = "", stateless: bool = False) -> subprocess.CompletedProcess[str]:
        self.said.append(text)
        line = " ".join(words)
        self.asked.append(line)
        out = next((answer for start, answer in self.answers.items() if line.startswith(start)), "")
        return subprocess.CompletedProcess(words, 0 if out else 2, out, "" if out else f"no answer to {line}")

    def ask(self, op: str, payload: Path | None = None, **parameters: Any) -> dict[str, Any]:
        self.asked.append(op)
        if op == "attempt":
            done = [self.run(words) for words in parameters["arguments"]]
            return {"said": [{"code": d.returncode, "stdout": d.stdout, "stderr": d.stderr} for d in done]}
        return {"missing": [path for path in parameters["directories"] if path in self.missing], "status": {}}


class World:
    def __init__(self, tmp_path: Path, source: ServerFacts | None = None, target: ServerFacts | None = None) -> None:
        agent = tmp_path / "agent"
        agent.write_bytes(b"agent")
        self.source = Machine(source or debian_source(), debian_old())
        self.target = Machine(target or debian_target(), debian_new())
        self.events: list[dict[str, Any]] = []
        self.kept: list[Migration] = []
        job = Migration("web", "root@old", "root@new", (), server=True)
        remotes: Any = {"source": self.source, "target": self.target}
        self.move = Move(job, remotes, agent, self.events.append, self.kept.append)
        self.move.looks = {side: {"agent": "", "job": ""} for side in remotes}

    def told(self, event: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["event"] == event]


def test_the_lines_are_found_and_kept(tmp_path: Path) -> None:
    var = FileSystem(mountpoint="/var", fstype="ext4", source="/dev/vdb", device="vdb", free=9 * GIB, free_inodes=9**9)
    scratch = change(var, mountpoint="/scratch", device="vdc", source="/dev/vdc")
    target = debian_target()
    world = World(tmp_path, target=change(target, file_systems=(*target.file_systems, var, scratch)))
    world.source.missing = ("/scratch",)
    server.check(world.move)
    assert world.kept[-1].maps == ("/=/.livelift/new", "/var=/var/.livelift/new") == world.move.job.maps
    assert "takeover install --dry-run --json --mount=/ --mount=/var" in world.target.asked
    assert world.told("layout")[0]["maps"] == list(world.move.job.maps)
    assert {"target-fs-stays"} <= {e["id"] for e in world.told("finding")}
    world.kept.clear()
    server.check(world.move)
    assert not world.kept, "nothing new"
    assert world.move.mapping() == ["--server", "--map=/=/.livelift/new", "--map=/var=/var/.livelift/new"]


def test_an_inhibitor_ends_it_before_anything_is_kept(tmp_path: Path) -> None:
    world = World(tmp_path, source=change(debian_source(), architecture="aarch64"))
    with pytest.raises(PreflightError, match="architecture"):
        server.check(world.move)
    assert not world.kept
    world.move.job = msgspec.structs.replace(world.move.job, ignore=("architecture",))
    server.check(world.move)
    ignored = next(e for e in world.told("finding") if e["id"] == "architecture" and e["level"] == "warning")
    assert "ignored by the operator" in ignored["diagnosis"]


def test_what_the_take_over_misses_counts_but_for_what_is_not_there_yet(tmp_path: Path) -> None:
    world = World(tmp_path)
    wrong = [Finding(id, Level.INHIBITOR, "why", "what") for id in (*server.NOT_YET, "takeover-menu")]
    world.target.answers["takeover install"] = json.dumps(Findings(wrong).to_dict())
    with pytest.raises(PreflightError, match=r"^\S+ why \[takeover-menu\]$|why \[takeover-menu\]"):
        server.check(world.move)
    assert {e["id"] for e in world.told("finding") if e["level"] == "inhibitor"} == {"takeover-menu"}


def test_facts_that_are_none(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.target.answers["facts --json"] = ""
    with pytest.raises(CommandError, match="facts of the target: no answer"):
        server.check(world.move)


def test_the_adaptation_is_asked_for_with_the_operators_word(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.move.job = msgspec.structs.replace(world.move.job, policy='network = "take-source"', ignore=("x",))
    answer = {"findings": [], "mode": "layers", "edits": 3, "seconds": 1.5, "install_seconds": 2.5, "already": False}
    world.target.answers["adapt --json --said -"] = json.dumps(answer)
    server.adapt(world.move)
    assert json.loads(world.target.said[-1]) == {"policy": 'network = "take-source"', "rules": "", "ignore": ["x"]}
    assert world.told("adapted")[0]["edits"] == 3
    world.target.answers["adapt --json --said -"] = ""
    with pytest.raises(CommandError, match="no answer"):
        server.adapt(world.move)


def test_a_dry_run_shows_the_plan_and_leaves_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert preview(world.move) == 0
    (plan,) = world.told("plan")
    assert "+  UUID=bbbb-root / ext4 errors=remount-ro 0 1" in plan["text"] and plan["plan"]["inhibitors"] == 0
    assert any(edit["id"] == "agent/unit" for edit in plan["plan"]["edits"])
    assert "attempt" in world.source.asked and "attempt" in world.target.asked, "the agent is not there yet"
    assert not world.kept
    other = World(tmp_path, source=change(debian_source(), architecture="aarch64"))
    other.move.looks["source"]["agent"] = other.move.looks["target"]["agent"] = other.move.digest
    assert preview(other.move) == 3
    assert "attempt" not in other.source.asked


def test_the_steps_of_a_server_are_those_of_data_and_three_more(tmp_path: Path) -> None:
    world = World(tmp_path)
    names = [step.name for step in world.move.steps]
    assert [name for name in names if name not in ("check", "adapt")] == [step.name for step in STEPS]
    assert names.index("check") < names.index("preflight") and names[-1] == "adapt"
    assert not next(step for step in world.move.steps if step.name == "check").done(world.move)


def test_the_unit_of_the_target(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.move.job = msgspec.structs.replace(world.move.job, maps=("/=/.livelift/new",))
    text = world.move.unit_text(world.move.target_words())
    assert (
        "ExecStart=/bin/sh /.livelift/livelift-agent target --state /.livelift/target --listen 0.0.0.0:4777 "
        "--code-file /.livelift/target/code --server --map=/=/.livelift/new\n"
    ) in text
    assert "Environment=LIVELIFT_CACHE=/.livelift/cache\n" in text and "WantedBy=multi-user.target" in text
