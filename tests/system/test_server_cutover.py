"""A whole server's cutover with real agents, a real link and a real frozen cgroup; the take-over itself is played
(`pretend`). Before the hand-over everything that goes wrong leads to a source that serves within a second; after it to
a source that does what the target says, or waits and says so."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from livelift.control.client import RemoteFailure, call
from livelift.errors import UnreachableError
from livelift.platform.linux.cgroups import Freezer
from tests.oracle.compare import assert_equal
from tests.oracle.pair import ROOT, LivePair, Status
from tests.system.conftest import Disks
from tests.system.test_rollback import some_files, verb, wait_for

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.usefixtures("agents"), pytest.mark.timeout(600)]

Service = tuple[Path, Callable[[str], subprocess.Popen[bytes]]]
FENCED = ("drain", "verify", "cut", "settle", "arm", "hand-over")
SECOND = 1.1
"""And the time between two looks."""


class Server:
    """The pair, its workload, and the play."""

    def __init__(self, pair: LivePair, group: Path, beat: Path) -> None:
        self.pair = pair
        self.freezer = Freezer(os.fsencode(group))
        self.beat = beat

    def play(self, **play: Any) -> None:
        path = self.pair.states["target"] / "play.json"
        path.with_suffix(".tmp").write_text(json.dumps(play))
        path.with_suffix(".tmp").replace(path)

    @property
    def stands(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.pair.states["target"] / "stands.json").read_text())
        return found

    @property
    def note(self) -> str:
        try:
            return (self.pair.states["source"] / "cut").read_text()
        except FileNotFoundError:
            return ""

    @property
    def blocked(self) -> bool:
        return (self.pair.states["source"] / "boot/etc/systemd/system/default.target").is_symlink()

    def following(self) -> Status:
        return self.pair.wait(lambda s: s.state == "following" and s.gaps == 0 and bool(s.raw["connected"]), 90)

    def serves(self) -> bool:
        if self.freezer.frozen:
            return False
        size = self.beat.stat().st_size
        wait_for(lambda: self.beat.stat().st_size > size, "the workload goes on", 10)
        return True

    def cutover(self, on_step: Callable[[str], None] = lambda step: None, **options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        for answer in call(os.fsencode(self.pair.states["source"]), "cutover", 240, timeout=120, **options):
            if answer.get("step"):
                on_step(answer["step"])
        return answer

    def clean(self) -> None:
        """Nothing is left of an attempt that failed, on either side."""
        self.following()
        assert self.serves()
        assert not self.blocked
        assert not (self.pair.states["source"] / "fence.json").exists()
        wait_for(lambda: self.note == "", "the target has been told")
        assert self.stands["system"] == "old"
        assert not self.stands["settled"]
        assert self.stands["phase"] in ("idle", "returned")


@pytest.fixture
def server(disks: Disks, service: Service, tmp_path: Path) -> Iterator[Server]:
    group, start = service
    some_files(disks.source / "data", 20)
    beat = disks.source / "beat"
    start(f"while :; do date +%s.%N >> {beat}; sleep 0.02; done")
    with LivePair(
        [(disks.source, disks.target)],
        tmp_path,
        proxy=True,
        source_arguments=["--fence-cgroup", str(group), "--server"],
        prefix=[sys.executable, str(ROOT / "tests/system/pretend.py")],
    ) as pair:
        made = Server(pair, group, beat)
        made.following()
        yield made


def test_it_serves_there_and_is_committed(server: Server, disks: Disks) -> None:
    steps: list[str] = []
    result = server.cutover(steps.append)
    assert list(dict.fromkeys(steps)) == ["prepare", "fence", *FENCED, "boot"]
    assert (result["outcome"], result["state"]) == ("served", "served")
    assert result["outage_seconds"] >= sum(result["split"].values()) - 0.1
    assert {"fence", "drain", "verify", "cut", "settle", "arm", "confirm"} <= set(result["split"])
    assert server.freezer.frozen and server.blocked
    status = server.pair.look()
    assert status is not None and status.raw["handover"]["text"].startswith("the new system serves")
    assert status.raw["fence"]["taken"]["block"] is not None
    assert server.cutover()["outcome"] == "served", "asked again, it tells the same"
    assert_equal(disks.source, disks.target)
    assert verb(server.pair, "remove").returncode == 6, "not committed yet"
    done = verb(server.pair, "commit", "source", "--ignore", "probe-root", "--ignore", "probe-fstab")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])["target"]["findings"]
    assert [finding["id"] for finding in told] == ["probe-root", "probe-fstab"]
    assert server.note == "committed" and "commit" in server.stands["asked"]
    assert verb(server.pair, "commit").returncode == 0
    refused = verb(server.pair, "rollback")
    assert refused.returncode == 6 and "committed" in refused.stdout
    assert server.freezer.frozen


@pytest.mark.parametrize("how", ["fail", "hang"])
def test_the_target_fails_or_hangs_at_each_step(server: Server, how: str) -> None:
    """One after the other on the same job: every failure leaves it as it was."""
    for step in ("settle", "arm", "standing"):
        server.play(**{how: [step]})
        ended = threading.Event()
        frozen_until = [0.0]

        def watch(ended: threading.Event = ended, frozen_until: list[float] = frozen_until) -> None:
            while not ended.wait(0.01):
                if server.freezer.frozen:
                    frozen_until[0] = time.monotonic()

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            with pytest.raises(RemoteFailure) as failure:
                server.cutover(fence_timeout=5.0)
        finally:
            ended.set()
            watcher.join()
        assert ("fails in this play" if how == "fail" else "did not finish") in str(failure.value)
        assert frozen_until[0], "it was never fenced"
        server.play()
        server.clean()
    server.play(then="new")
    assert server.cutover()["outcome"] == "served"


def test_the_link_breaks_at_each_step(server: Server) -> None:
    assert server.pair.proxy is not None
    proxy = server.pair.proxy
    for step in FENCED:
        cut_at = [0.0]

        def cut(now: str, step: str = step, cut_at: list[float] = cut_at) -> None:
            if now == step:
                proxy.cut()
                cut_at[0] = time.monotonic()

        thread = threading.Thread(target=lambda cut=cut: attempt(server, cut))
        thread.start()
        wait_for(lambda cut_at=cut_at: bool(cut_at[0]), f"{step} is reached")
        wait_for(lambda: not server.freezer.frozen, "thawed", 15)
        assert time.monotonic() - cut_at[0] < SECOND, step
        thread.join(60)
        proxy.heal()
        server.clean()
    assert server.cutover()["outcome"] == "served"


def attempt(server: Server, on_step: Callable[[str], None]) -> None:
    try:
        server.cutover(on_step)
    except (RemoteFailure, UnreachableError, OSError) as error:
        print(f"the attempt ended: {error}")  # shown if the test fails


@pytest.mark.parametrize("step", ["fence", *FENCED, "boot"])
def test_the_source_agent_is_killed_at_each_step(server: Server, step: str, rng: random.Random) -> None:
    """It serves within a second, or it has handed over and stays fenced; started again it knows which."""
    killed = [0.0]
    server.play(then="nothing" if step == "boot" else "new")

    def kill() -> None:
        server.pair.kill9("source")
        killed[0] = time.monotonic()

    timer = threading.Timer(rng.uniform(0, 0.1), kill)
    begun = threading.Event()

    def at(now: str) -> None:
        if now == step and not begun.is_set():
            begun.set()
            timer.start()

    attempt(server, at)
    assert begun.is_set()
    timer.join(20)
    if server.note in ("handed", "served"):
        time.sleep(1.0)
        assert server.freezer.frozen and server.blocked
        server.play(then="new")
        server.pair.restart("source")
        if step == "boot" and server.stands["phase"] == "going":
            waiting = server.pair.wait(lambda s: s.state == "handed" and bool(s.raw["connected"]), 60)
            assert "handed over, waiting for" in waiting.raw["handover"]["text"]
            assert server.freezer.frozen
            (server.pair.states["target"] / "stands.json").write_text(
                json.dumps({**server.stands, "system": "new", "phase": "confirmed", "confirmed": True})
            )
        status = server.pair.wait(lambda s: s.state in ("served", "following"), 60)
        if status.state == "served":
            assert server.stands["system"] == "new"
            assert server.freezer.frozen
        else:  # it had not been told to go, and is not told by another agent
            assert server.stands["system"] == "old" and "go" not in server.stands["asked"]
            assert server.serves()
    else:
        wait_for(lambda: not server.freezer.frozen, "thawed", 15)
        assert time.monotonic() - killed[0] < SECOND
        assert server.serves()
        server.pair.restart("source")
        server.clean()
        assert server.cutover()["outcome"] == "served"


def test_the_old_system_stands_and_so_does_the_source(server: Server, disks: Disks) -> None:
    server.play(then="old")
    result = server.cutover()
    assert (result["outcome"], result["reason"]) == ("back", "the new system did not come up")
    assert "go" in server.stands["asked"]
    server.clean()
    status = server.following()
    assert status.raw["handover"]["reason"] == "the new system did not come up"
    server.play(then="new")
    assert server.cutover()["outcome"] == "served"
    assert_equal(disks.source, disks.target)


def test_silence_is_waited_out_until_the_operator_has_looked(server: Server) -> None:
    server.play(then="nothing")
    assert server.pair.proxy is not None
    for answer in call(os.fsencode(server.pair.states["source"]), "cutover", 120, timeout=120):
        if answer.get("step") == "boot":
            server.pair.proxy.cut()
            break  # the operator's terminal is gone: nothing changes
    time.sleep(2.0)
    shown = verb(server.pair, "status")
    handover = json.loads(shown.stdout)["handover"]
    assert "handed over, waiting for" in handover["text"] and "silent for" in handover["text"]
    assert server.freezer.frozen
    done = verb(server.pair, "rollback", "source", "--timeout", "2")
    assert done.returncode == 6 and "--force new-system-is-off" in done.stdout
    assert server.freezer.frozen
    done = verb(server.pair, "rollback", "source", "--force", "new-system-is-off")
    assert done.returncode == 0, done.stderr
    assert server.serves()
    assert not server.blocked


def test_rollback_after_the_new_system_served(server: Server, disks: Disks) -> None:
    server.play(then="new")
    assert server.cutover()["outcome"] == "served"
    dry = verb(server.pair, "rollback", "source", "--dry-run")
    assert "lead the target back to its old system" in dry.stdout
    done = verb(server.pair, "rollback")
    assert done.returncode == 0, done.stderr
    assert "back" in server.stands["asked"]
    server.clean()
    assert server.cutover()["outcome"] == "served"
    assert_equal(disks.source, disks.target)


def test_a_cutover_right_after_a_rollback_is_not_in_the_way_of_the_comparison(server: Server, disks: Disks) -> None:
    """What the new system has written is found and taken back while nothing is fenced, not after a wait for that."""
    server.play(then="new")
    assert server.cutover()["outcome"] == "served"
    (disks.target / "data/of-the-new-system").write_bytes(b"new")
    (disks.target / "data/file-3").write_bytes(b"what the new system made of it")
    assert verb(server.pair, "rollback").returncode == 0
    server.pair.wait(lambda s: s.state == "following" and bool(s.raw["connected"]), 90)
    result = server.cutover()
    assert result["outcome"] == "served"
    assert_equal(disks.source, disks.target)


def test_hooks_of_both_machines(server: Server, tmp_path: Path) -> None:
    """Those of the target are asked for by the source; one that fails before the hand-over undoes all."""
    log = tmp_path / "hooks.log"
    for side in ("source", "target"):
        place = tmp_path / side
        for step in ("settle.after", "hand-over.after", "serve.after", "abort.after"):
            (place / f"{step}.d").mkdir(parents=True, mode=0o755)
            hook = place / f"{step}.d/1"
            hook.write_text(f'#!/bin/sh\necho {side} "$LIVELIFT_STEP" "$LIVELIFT_STATE" >> {log}\n')
            hook.chmod(0o755)
    pair = server.pair
    for one in ("target", "source"):
        pair.agents[one].stop()  # type: ignore[index]
    pair._extra["source"] += ["--hooks", str(tmp_path / "source")]
    pair._extra["target"] += ["--hooks", str(tmp_path / "target")]
    pair.restart("target")
    pair.restart("source")
    server.following()
    shown = verb(pair, "cutover", "source", "--dry-run")
    assert set(json.loads(shown.stdout.splitlines()[-1])["hooks"]) == {"source", "target"}
    server.play(fail=["arm"])
    with pytest.raises(RemoteFailure):
        server.cutover()
    server.clean()
    wait_for(lambda: log.read_text().count("abort") >= 2, "both sides' hooks of the abort")  # told after the undo
    assert log.read_text().splitlines() == [
        *("source settle cut", "target settle cut"),
        *("source abort following", "target abort following"),
    ]
    log.unlink()
    server.play(then="new")
    assert server.cutover()["outcome"] == "served"
    wait_for(lambda: log.read_text().count("serve") >= 4, "both sides' last hooks")
    assert sorted(log.read_text().splitlines()) == sorted(
        f"{side} {rest}" for side in ("source", "target") for rest in ("settle cut", "hand-over handed", "serve served")
    )
