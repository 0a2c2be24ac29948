"""P8: whatever was applied when it stopped, and however, replay from the checkpoint ends in the same tree."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livelift.model.job import Map
from livelift.model.record import Kind, Record
from livelift.platform.linux.files import RENAME_EXCHANGE
from livelift.replay import replayer as module
from livelift.replay.apply import CONTENT
from livelift.replay.progress import Mark
from livelift.replay.replayer import Replayer
from tests.replay.conftest import Place
from tests.replay.logbook import ROOT, snapshot
from tests.replay.world import World

SOME = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


class Die(BaseException):
    """The agent is killed here."""


class Box:
    def __init__(self) -> None:
        self.work = Path(tempfile.mkdtemp(prefix="livelift-replay-"))
        (self.work / "replica").mkdir()
        self.top = bytes(self.work / "replica")

    def open(self, workers: int = 2) -> Replayer:
        return Replayer(bytes(self.work / "state"), [Map(b"/s", self.top)], workers, open_directories=3, open_files=4)


@contextmanager
def box() -> Iterator[Box]:
    made = Box()
    try:
        yield made
    finally:
        shutil.rmtree(made.work)


def feed(replayer: Replayer, records: list[Record], rng: random.Random) -> set[int]:
    """Apply in batches of random size; the ids of all conflicts."""
    conflicts: set[int] = set()
    at = 0
    while at < len(records):
        size = rng.choice([1, 3, 20, 200])
        result = replayer.apply(records[at : at + size])
        conflicts.update(conflict.oid for conflict in result.conflicts)
        assert result.problems == []
        at += size
    return conflicts


@SOME
@given(seed=st.integers(0, 1 << 32), steps=st.integers(1, 120))
def test_replay_equals_the_world(seed: int, steps: int) -> None:
    with box() as here:
        world = World(random.Random(seed))
        for _ in range(steps):
            world.step()
        replayer = here.open()
        try:
            assert feed(replayer, world.log.records, world.rng) == set()
            assert world.differences(here.top) == []
            assert replayer.apply(world.log.records[steps // 2 :]).conflicts == []
            assert world.differences(here.top) == []
        finally:
            replayer.close()


@SOME
@given(seed=st.integers(0, 1 << 32), steps=st.integers(1, 80), stops=st.integers(1, 4))
def test_a_stop_between_batches(seed: int, steps: int, stops: int) -> None:
    with box() as here:
        world = World(random.Random(seed))
        for _ in range(stops):
            for _ in range(steps):
                world.step()
            replayer = here.open()
            try:
                assert replayer.applied_lsn == replayer.durable_lsn
                assert feed(replayer, world.log.records[replayer.durable_lsn :], world.rng) == set()
                assert world.differences(here.top) == []
                if world.rng.randrange(3) == 0:
                    replayer.checkpoint()
            finally:
                replayer.close()


@SOME
@given(seed=st.integers(0, 1 << 32), moment=st.integers(0, 30), after=st.booleans())
def test_a_kill_around_a_step(seed: int, moment: int, after: bool) -> None:
    """Killed just before or just after any one of the marks was set: so before, between and after each step."""
    with box() as here:
        world = World(random.Random(seed))
        for _ in range(100):
            world.step()
        records = world.log.records
        real = Mark._set
        left = moment

        def dying(self: Mark, begun: int, done: int) -> None:
            nonlocal left
            left -= 1
            if left < 0 and not after:
                raise Die
            real(self, begun, done)
            if left < 0:
                raise Die

        replayer = here.open(1)
        try:
            feed(replayer, records[:25], world.rng)
            replayer.checkpoint()
            with mock.patch.object(Mark, "_set", dying):
                feed(replayer, records[25:], world.rng)
        except Die:
            pass
        finally:
            replayer.close()
        replayer = here.open()
        try:
            assert feed(replayer, records[replayer.durable_lsn :], world.rng) == set()
            assert world.differences(here.top) == []
        finally:
            replayer.close()


@SOME
@given(seed=st.integers(0, 1 << 32), steps=st.integers(5, 100))
def test_a_power_cut(seed: int, steps: int) -> None:
    """The names are those of some moment, what was written before that moment is lost: all of it is read again."""
    with box() as here:
        world = World(random.Random(seed))
        for _ in range(steps):
            world.step()
        replayer = here.open()
        try:
            feed(replayer, world.log.records, world.rng)
            replayer.checkpoint()
            durable = replayer.durable_lsn
            for _ in range(steps):
                world.step()
            feed(replayer, world.log.records[durable:], world.rng)
            floor = replayer._progress.begun
        finally:
            replayer.close()
        lost = {
            record.body.oid  # type: ignore[union-attr]
            for record in world.log.records[durable:floor]
            if record.kind in CONTENT
        }
        for path, oid in world.paths().items():
            if oid in lost and oid in world.files:
                with open(here.top + b"/" + path, "wb") as file:
                    file.write(b"garbage of a lost page")
        with mock.patch.object(module, "boot_id", lambda: "another boot"):
            replayer = here.open()
            try:
                conflicts = feed(replayer, world.log.records[durable:], world.rng)
                end = len(world.log.records)
                world.read_again(conflicts)
                assert feed(replayer, world.log.records[end:], world.rng) == set()
                assert world.differences(here.top) == []
                replayer.checkpoint()
            finally:
                replayer.close()
            replayer = here.open()
            try:
                assert replayer.apply(world.log.records).conflicts == []
            finally:
                replayer.close()


def test_the_mark_of_an_earlier_job_means_nothing(tmp_path: Path) -> None:
    with box() as here:
        for job in range(2):
            world = World(random.Random(job))
            for _ in range(50):
                world.step()
            replayer = Replayer(bytes(tmp_path / f"state{job}"), [Map(b"/s", here.top)])
            try:
                assert replayer.durable_lsn == 0
                feed(replayer, world.log.records, world.rng)
                if job == 0:
                    for path in here.work.joinpath("replica").iterdir():
                        if path.name != ".livelift":
                            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            finally:
                replayer.close()
        assert world.differences(here.top) == []




@pytest.mark.root
@pytest.mark.parametrize("when", ["begin", "end"])
@pytest.mark.parametrize("what", ["exchange", "collapse", "insert"])
def test_the_step_in_doubt_that_names_do_not_decide(ext4: Place, what: str, when: str) -> None:
    log = ext4.log
    log.base(10, ROOT, b"a", b"A" * 8192)
    log.base(11, ROOT, b"b", b"B")
    if what == "exchange":
        log.rename(10, ROOT, b"a", ROOT, b"b", RENAME_EXCHANGE, 11)
    else:
        log.range(Kind[what.upper()], 10, ROOT, b"a", 0, 4096)
    with pytest.raises(Die), mock.patch.object(Mark, when, side_effect=Die):
        ext4.apply()
    for _ in range(2):
        ext4.crash()
        assert ext4.replayer.apply(log.records).conflicts == []
    tree = snapshot(ext4.top)
    expected = {
        "exchange": (b"B", b"A" * 8192),
        "collapse": (b"A" * 4096, b"B"),
        "insert": (bytes(4096) + b"A" * 8192, b"B"),
    }
    assert (tree[b"a"][-1], tree[b"b"][-1]) == expected[what]
    assert not [name for name in os.listdir(ext4.path(b".livelift")) if name.startswith(b"doubt")]
