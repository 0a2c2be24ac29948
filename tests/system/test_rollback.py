"""After a cut: back to the source, on to a second cut, away without a trace; a cutover that fails unfences at once."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from livelift.control.client import RemoteFailure, call
from livelift.platform.linux.cgroups import Freezer
from tests.oracle.compare import assert_equal
from tests.oracle.pair import LIVELIFT, LivePair, Side, environment
from tests.system.conftest import Disks

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.usefixtures("agents")]


def verb(pair: LivePair, name: str, side: Side = "source", *more: str) -> subprocess.CompletedProcess[str]:
    command = [*LIVELIFT, name, "--state", str(pair.states[side]), "--json", *more]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=120)


def rolled_back(pair: LivePair) -> None:
    done = verb(pair, "rollback")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{pair.tail()}"


def wait_for(condition: Callable[[], bool], what: str, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not in {timeout} s: {what}"
        time.sleep(0.05)


def some_files(directory: Path, count: int = 50) -> None:
    directory.mkdir()
    for number in range(count):
        (directory / f"file-{number}").write_bytes(os.urandom(1000 * number))


def change(source: Path, word: bytes) -> None:
    (source / "data/file-3").write_bytes(word * 100)
    (source / "data/file-4").unlink(missing_ok=True)
    (source / "data").joinpath(word.decode()).mkdir()
    (source / "data/file-5").replace(source / "data" / word.decode() / "moved")
    (source / "data/file-5").write_bytes(word)


@pytest.mark.parametrize("mode", ["fanotify", "inotify"])
def test_back_to_the_source_and_over_again(disks: Disks, mode: str, tmp_path: Path) -> None:
    """Cut, service on the replica, rollback: the replica follows the source again; a second cutover works."""
    some_files(disks.source / "data")
    with LivePair([(disks.source, disks.target)], tmp_path, capture=mode, proxy=True) as pair:
        pair.wait_following()
        pair.cutover()
        assert_equal(disks.source, disks.target)
        assert not (disks.target / ".livelift").exists()
        change(disks.source, b"after-the-cut")  # nobody may write there now; it must not reach the replica
        assert pair.proxy is not None
        pair.proxy.cut()
        pair.proxy.heal()
        wait_for(lambda: bool((s := pair.look()) and s.raw["connected"]), "connected again")
        time.sleep(1.5)
        assert not (disks.target / "data/after-the-cut").exists(), "the replica was changed after the cut"
        assert not (disks.target / ".livelift").exists()
        (disks.target / "data/file-7").write_bytes(b"written by the service on the new machine")
        rolled_back(pair)
        pair.wait_following()
        change(disks.source, b"back")
        pair.wait_following()
        assert (disks.target / "data/back/moved").exists()
        pair.cutover()
    assert_equal(disks.source, disks.target)
    assert not (disks.target / ".livelift").exists()


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_cut_outlives_the_agents(disks: Disks, side: Side, tmp_path: Path) -> None:
    """An agent that is started again after a cut does not touch the replica before the rollback."""
    some_files(disks.source / "data")
    with LivePair([(disks.source, disks.target)], tmp_path, proxy=True) as pair:
        pair.wait_following()
        pair.cutover()
        pair.kill9(side)
        change(disks.source, b"after-the-cut")
        pair.restart(side)
        wait_for(lambda: bool((s := pair.look()) and s.state == "cut"), "the source says that it is cut")
        time.sleep(2)
        assert not (disks.target / "data/after-the-cut").exists()
        assert not (disks.target / ".livelift").exists()
        rolled_back(pair)
        pair.wait_following()
        pair.cutover()
    assert_equal(disks.source, disks.target)


def test_nothing_is_left_after_remove(disks: Disks, tmp_path: Path) -> None:
    some_files(disks.source / "data")
    with LivePair([(disks.source, disks.target)], tmp_path) as pair:
        pair.wait_following()
        pair.cutover()
        assert verb(pair, "remove").returncode == 6, "a fenced source is not removed by mistake"
        sides: tuple[Side, Side] = ("source", "target")
        for side in sides:
            done = verb(pair, "remove", side, *(["--keep-fence"] if side == "source" else []))
            assert done.returncode == 0, f"{side}: {done.stdout}\n{done.stderr}\n{pair.tail()}"
            assert not pair.states[side].exists()
            assert pair.agents[side].process.wait(30) == 0
    assert not (disks.target / ".livelift").exists()
    assert_equal(disks.source, disks.target)


def test_a_cutover_that_fails_unfences_within_a_second(
    disks: Disks, service: tuple[Path, Callable[[str], subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    """The link breaks while a real group stands frozen: the service goes on at once, and the next cutover works."""
    group, start = service
    some_files(disks.source / "data")
    beat = disks.source / "beat"
    start(f"while :; do date +%s.%N >> {beat}; sleep 0.02; done")
    freezer = Freezer(os.fsencode(group))
    arguments = ["--fence-cgroup", str(group)]
    with LivePair([(disks.source, disks.target)], tmp_path, proxy=True, source_arguments=arguments) as pair:
        assert pair.proxy is not None
        pair.wait(lambda status: status.state == "following" and status.gaps == 0, 60)
        answers: list[dict[str, Any]] = []
        failures: list[Exception] = []

        def cut_over() -> None:
            try:
                for answer in call(os.fsencode(pair.states["source"]), "cutover", 120, timeout=60):
                    answers.append(answer)
                    if answer.get("step") == "drain":
                        proxy.cut()
                        cut_at.append(time.monotonic())
            except RemoteFailure as error:
                failures.append(error)
                ended_at.append(time.monotonic())

        proxy = pair.proxy
        cut_at: list[float] = []
        ended_at: list[float] = []
        thread = threading.Thread(target=cut_over)
        thread.start()
        wait_for(lambda: bool(cut_at), "the drain has begun")
        wait_for(lambda: not freezer.frozen, "thawed", 10)
        thawed_at = time.monotonic()
        thread.join(60)
        assert failures, f"the cutover succeeded without a link: {answers}"
        assert thawed_at - cut_at[0] < 1.0, f"frozen {thawed_at - cut_at[0]:.2f} s after the link broke"
        size = beat.stat().st_size
        wait_for(lambda: beat.stat().st_size > size, "the service goes on", 10)
        proxy.heal()
        pair.wait(lambda status: status.state == "following" and status.raw["connected"] and status.gaps == 0, 60)
        pair.cutover()
        assert freezer.frozen, "after the cut the source stays fenced"
        assert_equal(disks.source, disks.target)
        rolled_back(pair)
        assert not freezer.frozen
        size = beat.stat().st_size
        wait_for(lambda: beat.stat().st_size > size, "the service goes on", 10)
        pair.cutover()
        assert_equal(disks.source, disks.target)
