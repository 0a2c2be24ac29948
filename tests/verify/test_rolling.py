from __future__ import annotations

import itertools
import os
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from livelift.verify import cache as cache_module
from livelift.verify import measure
from livelift.verify.cache import DigestCache, Mapped
from livelift.verify.content import Content
from tests.verify.helpers import verifier

MIB = 1 << 20


@pytest.fixture(autouse=True)
def no_racy_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of these tests are as old as they need to be."""
    monkeypatch.setattr(cache_module, "RACY", 0)
    time.sleep(0.02)


def fill(root: Path, files: int = 200) -> None:
    for number in range(files):
        (root / f"d{number % 10}").mkdir(exist_ok=True)
        (root / f"d{number % 10}" / f"f{number}").write_bytes(b"x" * (100 + number))
    time.sleep(0.02)


def test_a_round_warms_the_cache_for_the_verification(tmp_path: Path) -> None:
    fill(tmp_path)
    with verifier(tmp_path) as side:
        first = side.step(60)
        assert (first.round, first.directories, first.objects, first.known, first.round_done) == (1, 11, 211, 0, True)
        assert first.bytes_hashed == sum(100 + number for number in range(200))
        side.begin()
        assert len(list(side.everything())) == 11
        assert (side.counts.files, side.counts.files_cached) == (0, 200)
        (tmp_path / "d3" / "f3").write_bytes(b"changed")
        time.sleep(0.02)
        second = side.step(60)
        assert (second.round, second.known, second.bytes_hashed) == (2, 210, 7)


def test_a_step_ends_when_its_time_is_up_and_the_next_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    with (tmp_path / "big").open("wb") as file:
        file.write(b"y" * (8 * MIB))
    time.sleep(0.02)
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1.0
        return now

    with verifier(tmp_path) as side:
        monkeypatch.setattr(side._rolling, "_clock", clock)
        steps = []
        while not (steps and steps[-1].round_done):
            steps.append(side.step(5))
        assert len(steps) > 30
        assert max(b.bytes_hashed - a.bytes_hashed for a, b in itertools.pairwise(steps)) <= 6 * MIB
        assert steps[-1].objects == 212 and steps[-1].round == 1
        assert sorted(steps, key=lambda step: step.bytes_hashed) == steps


def test_mapped_and_young_files_are_not_kept(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    status = os.stat(tmp_path / "d1" / "f1")
    own = DigestCache()
    with verifier(tmp_path, own) as side:
        side.mapped(Mapped(frozenset({(status.st_dev, status.st_ino)}), time.time_ns()))
        assert side.step(60).bytes_hashed == 100 + 102
        side.begin()
        list(side.everything())
        assert (side.counts.files, side.counts.files_cached) == (1, 2)
        side.mapped(Mapped(frozenset(), 0))  # a list from before all files: nothing may be kept
        own.clear()
        assert side.step(60).bytes_hashed == 0
    own.close()


def test_what_vanishes_or_fails_meanwhile_is_left_to_the_verification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, 5)
    real = measure.content_steps

    def steps(fd: int, name: bytes, status: os.stat_result) -> Generator[int, None, Content | None]:
        if name == b"f1":
            os.unlink(name, dir_fd=fd)
        elif name == b"f2":
            yield 1
            raise OSError(5, "Input/output error")
        return (yield from real(fd, name, status))

    monkeypatch.setattr(measure, "content_steps", steps)
    with verifier(tmp_path) as side:
        done = side.step(60)
        assert done.round_done and done.objects == 11


def test_closing_in_the_middle_releases_descriptors(tmp_path: Path) -> None:
    fill(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    with verifier(tmp_path) as side:
        assert not side.step(0).round_done
    assert len(os.listdir("/proc/self/fd")) == before
