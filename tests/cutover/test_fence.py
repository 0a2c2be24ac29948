"""The fence on real processes, with the freezer of cgroup v2 or v1, whichever is mounted (root)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.cutover.fence import FreezeFence, OpenFence
from livelift.cutover.taken import Taken, load
from livelift.errors import LiveliftError, StateError
from livelift.platform.linux.cgroups import Freezer, hierarchies

WRITER = """
import os, sys, time
with open(sys.argv[1], "wb", buffering=0) as file:
    while True:
        file.write(b".")
        time.sleep(0.005)
"""


class Writer:
    """A child that appends to a file all the time, in a cgroup of its own."""

    def __init__(self, group: Path, path: Path) -> None:
        self.group = group
        self.path = path
        group.mkdir()
        path.touch()
        self.process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
        (group / "cgroup.procs").write_text(str(self.process.pid))
        deadline = time.monotonic() + 10
        while not path.stat().st_size and time.monotonic() < deadline:
            time.sleep(0.01)

    def writes(self, seconds: float = 0.1) -> bool:
        before = self.path.stat().st_size
        time.sleep(seconds)
        return self.path.stat().st_size > before

    def close(self) -> None:
        Freezer(os.fsencode(self.group)).thaw()
        self.process.kill()
        self.process.wait()
        for _ in range(100):
            try:
                self.group.rmdir()
                return
            except OSError:
                time.sleep(0.02)  # the task leaves its cgroup a moment after its death
        self.group.rmdir()


@pytest.fixture(params=["v2", "v1"])
def hierarchy(request: pytest.FixtureRequest) -> Path:
    mounted = hierarchies().get(request.param.encode())
    if mounted is None:
        pytest.skip(f"no cgroup {request.param} freezer is mounted")
    return Path(os.fsdecode(mounted))


@pytest.fixture
def writers(hierarchy: Path, tmp_path: Path) -> Iterator[list[Writer]]:
    made: list[Writer] = []
    try:
        for i in range(2):
            made.append(Writer(hierarchy / f"livelift-fence-{os.getpid()}-{i}", tmp_path / str(i)))
        yield made
    finally:
        for writer in made:
            writer.close()


PASSING = ("", "fenced")


def fence_of(directory: Path, writers: list[Writer], timeout: float = 5.0) -> FreezeFence:
    return FreezeFence(os.fsencode(directory), [os.fsencode(w.group) for w in writers], PASSING, timeout)


@pytest.mark.root
def test_nobody_writes_behind_the_fence_and_everybody_after_it(writers, tmp_path):
    fence = fence_of(tmp_path, writers)
    assert all(os.fsdecode(w.group) in fence.name for w in writers)
    fence.ready()
    fence.up()
    fence.check()
    assert not any(w.writes() for w in writers)
    began = time.monotonic()
    fence.down()
    assert time.monotonic() - began < 1.0
    assert all(w.writes(0.3) for w in writers)
    assert not (tmp_path / "fence.json").exists()
    fence.down()  # taking it down twice does no harm
    assert all(w.writes(0.3) for w in writers)


@pytest.mark.root
def test_all_or_none(writers, hierarchy, tmp_path):
    """The second group holds this very process: refused, and the first group is let go again."""
    ours = hierarchy / f"livelift-fence-{os.getpid()}-own"
    ours.mkdir()
    home = next(
        line.split(":", 2)
        for line in Path("/proc/self/cgroup").read_text().splitlines()
        if (line.startswith("0:") if (ours / "cgroup.freeze").exists() else "freezer" in line.split(":")[1].split(","))
    )[2]
    try:
        (ours / "cgroup.procs").write_text(str(os.getpid()))
        groups = [os.fsencode(writers[0].group), os.fsencode(ours)]
        fence = FreezeFence(os.fsencode(tmp_path), groups, PASSING, 5.0)
        with pytest.raises(StateError, match="holds the agent itself"):
            fence.up()
        assert writers[0].writes(0.3)
    finally:
        (hierarchy / home.lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))
        ours.rmdir()


def test_a_group_that_cannot_be_frozen_is_refused_before_anything_stands_still(tmp_path):
    with pytest.raises(LiveliftError, match="cannot be frozen"):
        FreezeFence(os.fsencode(tmp_path), [os.fsencode(tmp_path)], PASSING)


@pytest.mark.root
def test_what_is_taken_is_written_down_before(writers, tmp_path, monkeypatch):
    fence = fence_of(tmp_path, writers)
    seen: list[object] = []
    monkeypatch.setattr("livelift.cutover.fence.freeze_all", lambda *_: seen.append(load(os.fsencode(tmp_path))))
    fence.up()
    assert seen == [Taken(groups=tuple(os.fsdecode(w.group) for w in writers))]


@pytest.mark.root
def test_another_process_takes_it_down(writers, tmp_path):
    """As after a restart: all that is known is in the state directory."""
    fence_of(tmp_path, writers).up()
    assert not any(w.writes() for w in writers)
    fence_of(tmp_path, writers).down()
    assert all(w.writes(0.3) for w in writers)


@pytest.mark.root
def test_a_group_that_somebody_thawed_or_a_keeper_that_ended_is_no_fence(writers, tmp_path):
    fence = fence_of(tmp_path, writers)
    fence.ready()
    fence.up()
    Freezer(os.fsencode(writers[1].group)).thaw()
    with pytest.raises(StateError, match="is not frozen any more"):
        fence.check()
    assert fence._keeper._process is not None
    fence._keeper._process.kill()
    fence._keeper._process.wait()
    with pytest.raises(StateError, match="the fence keeper has ended"):
        fence.check()
    fence.down()
    assert all(w.writes(0.3) for w in writers)


def test_no_fence():
    fence = OpenFence()
    for act in (fence.ready, fence.up, fence.check, fence.hold, fence.down):
        act()
    assert "none" in fence.name
