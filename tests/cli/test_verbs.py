"""The verbs against two real agents: what a dry run says and does not do, JSON everywhere, the log of real changes."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from livelift.cli.main import main
from tests.oracle.pair import LivePair, why_unavailable

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if reason := why_unavailable():
        pytest.skip(reason)
    work = tmp_path_factory.mktemp("verbs")
    source, target = work / "src", work / "dst"
    source.mkdir()
    target.mkdir()
    (source / "file").write_bytes(b"before")
    with LivePair([(source, target)], work / "pair") as pair:
        pair.wait_following()
        yield pair, source


def lines(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and stdout, every line of which must be a JSON object."""
    code = main([str(word) for word in words])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found and all(isinstance(line, dict) for line in found)
    return code, found


def test_the_log_shows_real_changes(pair: Any, capsys: pytest.CaptureFixture[str]) -> None:
    agents, source = pair
    state = agents.states["source"]
    (source / "nëw").write_bytes(b"")
    with (source / "file").open("r+b") as file:
        file.seek(3)
        file.write(b"ORE and more")
    (source / "file").rename(source / "renamed")
    agents.wait_following()
    deadline = time.monotonic() + 20
    while True:  # a change is in the log as soon as it has been captured, which may be after the last look
        _, shown = lines(capsys, "log", "show", "--state", state)
        if {"nëw", "renamed"} <= {line.get("name", "") for line in shown} | {line.get("new_name") for line in shown}:
            break
        assert time.monotonic() < deadline, shown
        time.sleep(0.2)
    by_name: dict[str, list[dict[str, Any]]] = {}
    for line in shown:
        assert line["lsn"] > 0 and line["time"].endswith("Z")
        by_name.setdefault(line.get("name", ""), []).append(line)
    assert {"create", "file", "base_file"} & {line["kind"] for line in by_name["nëw"]}
    renames = [line for line in shown if line["kind"] == "rename"]
    assert [(r["name"], r["new_name"]) for r in renames] == [("file", "renamed")]
    written = [line for line in shown if line["kind"] in ("write", "file")]  # a small file comes whole
    where = {"write": {"offset", "length", "object"}, "file": {"attributes", "object"}}
    assert written and all(where[line["kind"]] <= line.keys() for line in written)
    assert [line for line in written if "offset" in line or line.get("extents")], "where the bytes belong"
    assert not any("content" in line for line in shown)
    _, full = lines(capsys, "log", "show", "--content", "--state", state)
    held = b"".join(base64.b64decode(line.get("content", "")) for line in full if line["kind"] in ("write", "file"))
    assert b"ORE and more" in held
    _, part = lines(capsys, "log", "show", "--state", state, "--from", shown[2]["lsn"], "--limit", "2")
    assert [line["lsn"] for line in part] == [line["lsn"] for line in shown[2:4]]


def test_dry_runs_change_nothing(pair: Any, capsys: pytest.CaptureFixture[str]) -> None:
    agents, source = pair
    state = agents.states["source"]
    code, (answer, *_) = lines(capsys, "cutover", "--dry-run", "--json", "--state", state)
    assert code == 0 and answer["would"] == ["prepare", "fence", "drain", "verify", "cut"]
    code, (answer,) = lines(capsys, "rollback", "--dry-run", "--json", "--state", state)
    assert code == 6 and answer["error"] == "state"
    code, (answer,) = lines(capsys, "remove", "--dry-run", "--json", "--state", state)
    assert code == 0 and "spool" in answer["would_delete"]
    assert agents.look().state == "following"
    assert (state / "source.json").exists() and (source / "renamed").exists()


def test_json_of_every_verb(pair: Any, capsys: pytest.CaptureFixture[str]) -> None:
    agents, _ = pair
    source, target = agents.states["source"], agents.states["target"]
    assert lines(capsys, "status", "--json", "--state", source)[1][0]["role"] == "source"
    assert lines(capsys, "status", "--json", "--state", target)[1][0]["role"] == "target"
    code, (verdict,) = lines(capsys, "verify", "--json", "--state", source)
    assert code == 0 and verdict["differences"] == 0
    code, steps = lines(capsys, "cutover", "--json", "--state", source)
    assert code == 0
    assert [s["step"] for s in steps if s.get("step")] == ["prepare", "fence", "drain", "verify", "cut"]
    assert steps[-1]["differences"] == 0 and steps[-1]["cut_lsn"] > 0
    code, (answer,) = lines(capsys, "rollback", "--dry-run", "--json", "--state", source)
    assert code == 0 and answer["dry_run"] and agents.look().state == "cut"
    code, (refused,) = lines(capsys, "remove", "--json", "--state", source)
    assert code == 6 and refused["remedy"], "a fenced source is not removed by the way"
    code, (answer,) = lines(capsys, "rollback", "--json", "--state", source)
    assert code == 0 and answer["state"] == "following"


def test_remove_takes_the_state_and_leaves_the_data(pair: Any, capsys: pytest.CaptureFixture[str]) -> None:
    agents, tree = pair
    source: Path = agents.states["source"]
    code, (answer,) = lines(capsys, "remove", "--json", "--state", source)
    assert code == 0 and answer == {"removed": str(source), "stays_fenced": False}
    assert not source.exists()
    assert os.listdir(tree)
    agents.agents["source"].process.wait(10)
    assert agents.agents["source"].process.returncode == 0
    code, (answer,) = lines(capsys, "remove", "--json", "--state", tree)
    assert code == 2 and answer["error"] == "usage", "a directory that is not ours is never deleted"
    assert os.listdir(tree)
