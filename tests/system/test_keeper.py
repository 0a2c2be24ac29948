"""An agent that is killed while its workload is fenced: the fence keeper lets the workload go, or the cut stands."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from livelift.control.client import RemoteFailure, call
from livelift.errors import UnreachableError
from livelift.platform.linux.cgroups import Freezer
from tests.oracle.compare import assert_equal
from tests.oracle.pair import LivePair
from tests.system.conftest import Disks
from tests.system.test_rollback import rolled_back, some_files, verb, wait_for

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.usefixtures("agents")]

Service = tuple[Path, Callable[[str], subprocess.Popen[bytes]]]


def kill_at(pair: LivePair, step: str, delay: float) -> float:
    """Cut over, and kill the source agent ``delay`` seconds after it began the step. When it was dead."""
    killed: list[float] = []

    def kill() -> None:
        pair.agents["source"].process.send_signal(signal.SIGKILL)
        killed.append(time.monotonic())

    timer = threading.Timer(delay, kill)
    try:
        for answer in call(os.fsencode(pair.states["source"]), "cutover", 120, timeout=60):
            if answer.get("step") == step:
                timer.start()
    except (UnreachableError, RemoteFailure, OSError):
        pass
    timer.join(30)
    assert killed, f"{step} was not reached"
    return killed[0]


@pytest.mark.parametrize("step", ["fence", "drain", "verify", "cut"])
@pytest.mark.parametrize("late", [False, True])
def test_killed_at_every_step(
    disks: Disks, service: Service, tmp_path: Path, step: str, late: bool, rng: random.Random
) -> None:
    group, start = service
    some_files(disks.source / "data")
    beat = disks.source / "beat"
    start(f"while :; do date +%s.%N >> {beat}; sleep 0.01; done")
    freezer = Freezer(os.fsencode(group))
    with LivePair([(disks.source, disks.target)], tmp_path, source_arguments=["--fence-cgroup", str(group)]) as pair:
        pair.wait(lambda status: status.state == "following" and status.gaps == 0, 60)
        until = 1.0 if step == "fence" else 0.15  # the keeper starts first, then the fence goes up
        died = kill_at(pair, step, rng.uniform(0, until) if late else 0.0)
        note = pair.states["source"] / "cut"
        pair.agents["source"].process.wait(10)
        if read(note) == b"cut":  # it was quicker: the cut stands, whatever happens to the agent
            time.sleep(1.0)
            assert freezer.frozen
        else:
            size = beat.stat().st_size if beat.exists() else 0
            wait_for(lambda: not freezer.frozen and beat.stat().st_size > size, "the workload goes on", 10)
            assert time.monotonic() - died < 1.0 + 0.1, "one second, and the time between two looks"
            told = verb(pair, "status")
            assert told.returncode == 7
            assert "fence came down within" in told.stderr or "is it running?" in told.stderr
        pair.restart("source")
        pair.wait(lambda status: status.state in ("following", "cut") and status.raw["note"] in ("", "cut"), 60)
        if read(note) == b"cut":
            assert freezer.frozen
            rolled_back(pair)
            pair.wait(lambda status: status.state == "following" and status.gaps == 0, 60)
        assert not freezer.frozen
        report: dict[str, Any] = pair.cutover()
        assert report["differences"] == 0
        assert freezer.frozen
        assert_equal(disks.source, disks.target)
        rolled_back(pair)
        assert not freezer.frozen


def test_an_agent_that_ends_in_order_after_a_cut_leaves_the_fence_and_no_keeper(
    disks: Disks, service: Service, tmp_path: Path
) -> None:
    group, start = service
    some_files(disks.source / "data")
    start("while :; do sleep 0.05; done")
    freezer = Freezer(os.fsencode(group))
    with LivePair([(disks.source, disks.target)], tmp_path, source_arguments=["--fence-cgroup", str(group)]) as pair:
        pair.wait_following()
        pair.cutover()
        done = verb(pair, "remove", "source", "--keep-fence")
        assert done.returncode == 0, done.stderr
        assert pair.agents["source"].process.wait(30) == 0
        assert not pair.states["source"].exists()
        time.sleep(1.0)
        assert freezer.frozen
        marks = [entry for entry in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in read(entry)]
        assert [entry for entry in marks if b"keeper" in read(entry)] == []


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
