"""``livelift migrate`` with real ssh servers, the real agent file and real trees; both machines are this one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from livelift.bootstrap import jobs
from livelift.bootstrap.steps import STEPS, Move
from livelift.cli.main import main
from livelift.cli.migrate import connected
from livelift.errors import StateError
from livelift.identity.pairing import pair
from tests.bootstrap.agentfile import agent_file
from tests.bootstrap.sshd import free_port, sshd, why_unavailable
from tests.oracle.pair import environment

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.timeout(300)]


class Interrupted(BaseException):
    """Ctrl-C, or worse."""


class World:
    """Two machines that are one: by two ssh servers, two trees, and a base directory for both agents."""

    def __init__(self, work: Path, agent: Path, ports: tuple[int, int], config: Path) -> None:
        self.agent = agent
        self.old, self.new = (f"ssh://root@127.0.0.1:{port}" for port in ports)
        self.base = work / "livelift"
        self.source = work / "old 'tree' $(touch pwned); \"&"
        self.target = work / "new=tree"
        for tree in (self.source, self.target):
            tree.mkdir()
        (self.source / "sub").mkdir()
        for number in range(50):
            (self.source / f"sub/{number}").write_bytes(os.urandom(3000))
        os.link(self.source / "sub/1", self.source / "hard")
        (self.source / "link").symlink_to("sub/2")
        self.words = [
            *("migrate", self.old, self.new, "--job", "test", "--base", str(self.base), "--agent", str(agent)),
            *("--map", f"{self.source}={str(self.target).replace('=', '==')}", "--port", str(free_port())),
            *("--ssh-config", str(config)),
        ]

    def agents(self) -> dict[int, str]:
        """Process id and command line of everything that runs from the base directory."""
        lines = {pid: text.replace("\0", " ") for pid, text in of_processes("cmdline")}
        return {pid: line for pid, line in lines.items() if str(self.base) in line and "livelift-agent" in line}

    def same(self) -> bool:
        return snapshot(self.source) == snapshot(self.target)


def of_processes(name: str) -> Iterator[tuple[int, str]]:
    """Process id and text of a file in /proc/PID, of all that live long enough."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            yield int(pid), Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")


def snapshot(tree: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(tree)): path.read_bytes() if path.is_file() else None
        for path in tree.rglob("*")
        if ".livelift" not in path.parts
    }


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[tuple[int, int], Path]]:
    if reason := why_unavailable():
        pytest.skip(reason)
    home = tmp_path_factory.mktemp("sshd")
    with sshd(home / "old") as old, sshd(home / "new") as new:
        config = home / "config"
        config.write_text(
            (home / "old/config").read_text().replace("  Iden", f"  IdentityFile {home}/new/user\n  Iden", 1)
        )
        yield (old, new), config


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return agent_file(tmp_path_factory.mktemp("agent"))


@pytest.fixture
def world(
    tmp_path: Path, servers: tuple[tuple[int, int], Path], built: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    monkeypatch.setenv("LIVELIFT_JOBS", str(tmp_path / "jobs"))
    world = World(tmp_path, built, *servers)
    yield world
    left = world.agents()
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def lines(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[dict[str, Any]]]:
    capsys.readouterr()
    code = main(list(words))
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def started(world: World) -> tuple[jobs.Migration, list[dict[str, Any]]]:
    """The job of the command line, kept; and what the last run of it told."""
    from livelift.cli.main import build_parser
    from livelift.cli.migrate import _job

    job = _job(build_parser("migrate").parse_args(world.words))
    jobs.save(job)
    return job, []


def secrets_in_arguments(stop: threading.Event, world: World, seen: set[str]) -> None:
    """Every argument and environment of every process, again and again."""
    while not stop.is_set():
        for name in ("cmdline", "environ"):
            seen.update(text for _, text in of_processes(name) if str(world.base) in text)
        time.sleep(0.05)


def test_interrupted_after_every_step_and_again(
    world: World, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    job, told = started(world)
    ids: dict[str, int] = {}
    code, seen, stop = "", set[str](), threading.Event()
    watcher = threading.Thread(target=secrets_in_arguments, args=(stop, world, seen))
    for last in STEPS:

        def after(name: str, last: str = last.name) -> None:
            if name == last:
                raise Interrupted(name)

        if last.name == "pair":
            path = world.base / "test.target/code"
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            # An attempt that broke off at the worst moment has used the code up.
            code = path.read_text().strip()
            pair("127.0.0.1", job.port, code, "source", tmp_path / "other")
            watcher.start()
        told.clear()
        with connected(job) as remotes, pytest.raises(Interrupted, match=last.name):
            Move(job, remotes, world.agent, told.append).run(after=after)
        if last.name == "pair":
            stop.set()
            watcher.join()
        steps = [event for event in told if event["event"] == "step"]
        again = {event["step"] for event in steps if event["state"] != "done already"}
        # The preflight only looks: it is asked again until there is a job.
        expected = {last.name} | ({"preflight"} if last.name in ("start-target", "pair") else set())
        assert again == expected or (last.name == "follow" and not again), "a small tree is copied meanwhile"
        if last.name.startswith("place"):
            placed = world.base / f"test.{last.name[6:]}/livelift-agent"
            ids[str(placed)] = placed.stat().st_ino
    fresh = (world.base / "test.target/code").read_text().strip()
    assert fresh != code
    assert any("--pair-only" in text for text in seen), "the pairing was not seen at all"
    assert not any(text.find(secret) >= 0 for text in seen for secret in (code, fresh))
    assert {path: Path(path).stat().st_ino for path in ids} == ids, "not copied again"
    before = world.agents()
    assert len([line for line in before.values() if "--state" in line]) >= 2, before

    capfd.readouterr()
    assert main([*world.words, "--json"]) == 0
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert {event["state"] for event in events if event["event"] == "step"} == {"done already"}
    assert events[-1]["event"] == "ready" and events[-1]["status"]["verified"]["differences"] == 0
    assert set(before) <= set(world.agents()), "the same agents still run"
    assert world.same()
    assert not (Path.cwd() / "pwned").exists() and not Path("/root/pwned").exists()

    # The verbs of the job, from here.
    (world.source / "later").write_bytes(b"1")
    assert main(["verify", "--job", "test", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["differences"] == 0
    assert (world.target / "later").read_bytes() == b"1"
    assert main(["status", "--job", "test", "--side", "target", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["role"] == "target"
    assert main(["rollback", "--job", "test"]) == 6, "the exit code is the verb's"
    assert main(["cutover", "--job", "test"]) == 0
    capfd.readouterr()
    assert main(["remove", "--job", "test"]) == 6 and "fenced" in capfd.readouterr().err
    assert main(["migrate", "--job", "test", "--agent", str(world.agent)]) == 6 and "cut over" in capfd.readouterr().err
    assert main(["rollback", "--job", "test"]) == 0
    capfd.readouterr()
    assert main(["remove", "--job", "test", "--dry-run", "--json"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 2 and (world.base / "test.source/livelift-agent").exists()
    assert main(["remove", "--job", "test"]) == 0
    nothing_left(world)
    assert world.same() and not (world.target / ".livelift").exists()
    capfd.readouterr()
    assert main(["status", "--job", "test"]) == 2 and "knows no job" in capfd.readouterr().err


def nothing_left(world: World) -> None:
    deadline = time.monotonic() + 20
    while world.agents() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert world.agents() == {}
    assert not world.base.exists()
    assert jobs.names() == [] and not (jobs.home() / "test").exists()


@pytest.mark.long
def test_a_killed_controller_is_followed_by_another(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """SIGKILL at whatever it was doing; the last run is left to end."""
    command = [sys.executable, "-m", "livelift", *world.words, "--json"]
    for seconds in (0.9, 1.7, 3.0, 5.0):
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["event"] == "ready"
    assert world.same()
    assert main(["remove", "--job", "test"]) == 0
    nothing_left(world)


@pytest.mark.long
def test_agents_that_died_are_started_again(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(world.words) == 0
    assert "ready: " in capfd.readouterr().out
    for pid in world.agents():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    (world.source / "meanwhile").write_bytes(b"1")
    assert main(["migrate", "--job", "test", "--agent", str(world.agent), "--json"]) == 0
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    done = {event["step"] for event in events if event["event"] == "step" and event["state"] == "done"}
    assert {"start-target", "start-source"} <= done and not {"place-source", "pair"} & done
    assert world.same()
    assert main(["remove", "--job", "test"]) == 0
    nothing_left(world)


def test_agents_of_another_file_are_replaced_when_that_is_said(
    world: World, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(world.words) == 0
    newer = tmp_path / "newer"
    shutil.copy(world.agent, newer)
    with zipfile.ZipFile(newer, "a") as archive:
        archive.comment = b"another one"
    before = world.agents()
    words = ["migrate", "--job", "test", "--agent", str(newer), "--json"]

    code, told = lines(capfd, *words)
    found = [event for event in told if event["event"] == "finding" and event["id"] == "agent-file"]
    assert code == 0 and "the source and the target" in found[0]["diagnosis"] and "--renew" in found[0]["remedy"]
    code, told = lines(capfd, *words, "--renew", "--dry-run")
    would = {event["step"] for event in told if event["event"] == "step" and event["state"] == "would be done"}
    assert code == 0 and would == {"renew", "place-target", "place-source"}
    assert set(before) <= set(world.agents()), "only looked"

    (world.source / "meanwhile").write_bytes(b"1")
    code, told = lines(capfd, *words, "--renew")
    assert code == 0 and told[-1]["event"] == "ready"
    assert not any("--state" in line for pid, line in world.agents().items() if pid in before), "they ended"
    for side in ("source", "target"):
        assert (world.base / f"test.{side}/livelift-agent").read_bytes() == newer.read_bytes()
    assert world.same()
    after = set(world.agents())
    code, told = lines(capfd, *words, "--renew")
    assert {event["state"] for event in told if event["event"] == "step"} == {"done already"}
    assert after <= set(world.agents())
    assert main(["remove", "--job", "test"]) == 0
    nothing_left(world)


@pytest.mark.parametrize("state", ["fencing", "draining", "verifying"])
def test_agents_are_not_replaced_during_a_cutover(world: World, state: str) -> None:
    job, told = started(world)
    with connected(job) as remotes:
        move = Move(job, remotes, world.agent, told.append, renew=True)
        move.looks = {"source": {"status": {"state": state}, "running": True, "agent": "other"}}
        with pytest.raises(StateError, match=f"while the job is {state}"):
            move.end_older()


def test_a_dry_run_changes_nothing(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, events = lines(capsys, *world.words, "--dry-run", "--json")
    assert code == 0
    assert [event["side"] for event in events if event["event"] == "machine"] == ["source", "target"]
    steps = [event["step"] for event in events if event.get("state") == "would be done"]
    assert steps == [step.name for step in STEPS]
    assert sorted(tmp_path.rglob("*")) == before


def test_what_was_begun_is_removed_without_a_job(world: World) -> None:
    job, _ = started(world)

    def after(name: str) -> None:
        if name == "place-source":
            raise Interrupted

    with connected(job) as remotes, pytest.raises(Interrupted):
        Move(job, remotes, world.agent, lambda event: None).run(after=after)
    assert (world.base / "test.source/livelift-agent").exists()
    assert main(["remove", "--job", "test"]) == 0
    nothing_left(world)


def test_what_is_missing_is_told_before_anything_is_placed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    (world.target).rmdir()
    (world.source / "sub").rename(world.base.parent / "moved")
    code, events = lines(capsys, *world.words, "--json")
    assert code == 3 and events[-1]["error"] == "inhibitor"
    assert "target ssh://root@127.0.0.1" in events[-1]["text"] and "no directory" in events[-1]["text"]
    assert "correct --map" in events[-1]["remedy"]
    assert not world.base.exists()


def test_a_machine_that_is_not_there(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.words[2] = f"ssh://root@127.0.0.1:{free_port()}"
    code, events = lines(capsys, *world.words, "--json")
    assert code == 7 and "refused" in events[-1]["text"] and "ssh ssh://root@127.0.0.1" in events[-1]["remedy"]


def test_a_key_that_is_not_accepted(world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "none"
    config.write_text(
        "Host *\n  IdentityFile /nonexistent\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n"
        f"  UserKnownHostsFile {tmp_path}/known\n"
    )
    world.words[-1] = str(config)
    code, events = lines(capsys, *world.words, "--json")
    assert code == 7 and "Permission denied" in events[-1]["text"]


def test_the_source_says_what_stands_in_the_way(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code, events = lines(capsys, *world.words, "--capture", "none", "--json")
    assert code in (2, 3) and events[-1]["error"] and events[-1]["remedy"], events[-1]
    assert main(["remove", "--job", "test"]) == 0
    nothing_left(world)


def test_a_job_keeps_its_options(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    started(world)
    code, events = lines(capsys, *world.words, "--bandwidth", "1M", "--json")
    assert code == 2 and "other options" in events[-1]["text"] and "--job test" in events[-1]["remedy"]


def test_one_controller_at_a_time(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    with jobs.held("test"):
        code, events = lines(capsys, *world.words, "--json")
    assert code == 8 and "another livelift works on job test" in events[-1]["text"]
