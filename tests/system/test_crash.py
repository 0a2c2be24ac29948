"""Agents killed, links cut, disks full: nothing is lost, nothing is copied twice without need, the ends are equal."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.oracle.compare import assert_equal
from tests.oracle.ops import RandomOps
from tests.oracle.pair import LivePair, Side
from tests.system.conftest import Disks

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.usefixtures("agents")]

MIB = 1 << 20


def fill(directory: Path, seed: int, files: int, size: int) -> None:
    """Incompressible content, so that bytes on the link tell what was sent."""
    chooser = random.Random(seed)
    for number in range(files):
        parent = directory / f"{number % 10}"
        parent.mkdir(parents=True, exist_ok=True)
        (parent / f"file-{number}").write_bytes(chooser.randbytes(size))


@contextmanager
def worker(directory: Path, seed: int) -> Iterator[RandomOps]:
    directory.mkdir()
    ops = RandomOps(directory, seed)
    try:
        yield ops
    finally:
        ops.close()


def keep_busy(ops: RandomOps, seconds: float) -> None:
    """Operations at a moderate rate: the point is what happens to them, not how many there are."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ops.run(5)
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("side", "mode"),
    [
        ("source", "fanotify"),
        ("target", "fanotify"),
        ("target", "inotify"),
        pytest.param("source", "inotify", marks=pytest.mark.long),
    ],
)
def test_an_agent_killed_again_and_again(disks: Disks, mode: str, side: Side, seed: int, tmp_path: Path) -> None:
    """During the base copy and after it, at moments that the seed chooses, while the workload goes on."""
    chooser = random.Random(seed)
    fill(disks.source / "base", seed, 300, 50_000)
    with (
        worker(disks.source / "busy", seed) as ops,
        LivePair([(disks.source, disks.target)], tmp_path, capture=mode, proxy=True) as pair,
    ):
        for _ in range(5):
            keep_busy(ops, chooser.uniform(0.05, 1.5))
            pair.kill9(side)
            keep_busy(ops, chooser.uniform(0.0, 0.5))
            pair.restart(side)
        keep_busy(ops, 0.5)
        pair.wait_following(120)
        pair.kill9(side)
        keep_busy(ops, 0.5)
        pair.restart(side)
        pair.wait_following(120)
        pair.cutover()
    assert_equal(disks.source, disks.target)


def test_a_restarted_source_does_not_copy_everything_again(disks: Disks, tmp_path: Path) -> None:
    fill(disks.source / "base", 1, 200, MIB // 2)  # 100 MiB
    with LivePair([(disks.source, disks.target)], tmp_path, proxy=True) as pair:
        assert pair.proxy is not None
        pair.wait_following()
        assert pair.proxy.sent > 90 * MIB
        before = pair.proxy.sent
        pair.kill9("source")
        # What happens while nobody watches:
        with (disks.source / "base/3/file-3").open("r+b") as file:
            file.seek(1000)
            file.write(b"changed unseen")
        (disks.source / "base/4/file-4").unlink()
        (disks.source / "base/5").rename(disks.source / "base/moved")
        (disks.source / "new").write_bytes(os.urandom(MIB))
        pair.restart("source")
        pair.wait_following()
        pair.cutover()
        assert pair.proxy.sent - before < 20 * MIB
    assert_equal(disks.source, disks.target)


def test_a_restarted_target_does_not_ask_for_everything_again(disks: Disks, tmp_path: Path) -> None:
    fill(disks.source / "base", 2, 200, MIB // 2)
    with LivePair([(disks.source, disks.target)], tmp_path, proxy=True) as pair:
        assert pair.proxy is not None
        pair.wait_following()
        before = pair.proxy.sent
        pair.kill9("target")
        (disks.source / "base/3/file-3").write_bytes(os.urandom(MIB))
        pair.restart("target")
        pair.wait_following()
        pair.cutover()
        assert pair.proxy.sent - before < 20 * MIB
    assert_equal(disks.source, disks.target)


def test_a_link_that_breaks_and_stalls(disks: Disks, seed: int, tmp_path: Path) -> None:
    chooser = random.Random(seed)
    fill(disks.source / "base", seed, 100, MIB)
    with (
        worker(disks.source / "busy", seed) as ops,
        LivePair([(disks.source, disks.target)], tmp_path, proxy=True) as pair,
    ):
        assert pair.proxy is not None
        for round_ in range(6):
            keep_busy(ops, chooser.uniform(0.0, 0.6))
            if round_ % 2:
                pair.proxy.stall()
            else:
                pair.proxy.cut()
            keep_busy(ops, chooser.uniform(0.1, 1.0))
            pair.proxy.heal()
        pair.wait_following()
        pair.cutover()
        assert pair.proxy.connections > 3
    assert_equal(disks.source, disks.target)


@pytest.mark.parametrize("disks", [("ext4", 400, 300)], indirect=True)
def test_a_full_target_waits_and_goes_on_when_there_is_room(disks: Disks, tmp_path: Path) -> None:
    """The writers on the source see nothing of it, both agents live on, and nothing is lost."""
    fill(disks.source / "base", 3, 50, MIB)
    with LivePair([(disks.source, disks.target)], tmp_path) as pair:
        pair.wait_following()
        room = os.statvfs(disks.target_volume)
        filler = disks.target_volume / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - 10 * MIB)
        fill(disks.source / "more", 4, 60, MIB)
        time.sleep(4)
        for agent in pair.agents.values():
            agent.check_alive()
        status = pair.status()
        assert status is not None and not status.caught_up, "60 MiB went into 10"
        filler.unlink()
        pair.wait_following()
        pair.cutover()
    assert_equal(disks.source, disks.target)


def test_a_frozen_target_harms_nobody(disks: Disks, tmp_path: Path) -> None:
    """A target that stopped answering: the workload goes on at its pace, the source keeps what it captured."""

    fill(disks.source / "base", 5, 50, MIB // 4)
    with (
        worker(disks.source / "busy", 5) as ops,
        LivePair([(disks.source, disks.target)], tmp_path) as pair,
    ):
        pair.wait_following()
        target = pair.agents["target"].process
        target.send_signal(signal.SIGSTOP)
        try:
            started = time.monotonic()
            ops.run(1500)
            assert time.monotonic() - started < 20
            pair.agents["source"].check_alive()
        finally:
            target.send_signal(signal.SIGCONT)
        pair.wait_following()
        pair.cutover()
    assert_equal(disks.source, disks.target)
