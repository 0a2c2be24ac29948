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


def fence_of(writers: list[Writer], timeout: float = 5.0) -> FreezeFence:
    return FreezeFence([os.fsencode(w.group) for w in writers], timeout)


@pytest.mark.root
def test_nobody_writes_behind_the_fence_and_everybody_after_it(writers):
    fence = fence_of(writers)
    assert all(os.fsdecode(w.group) in fence.name for w in writers)
    fence.up()
    assert not any(w.writes() for w in writers)
    began = time.monotonic()
    fence.down()
    assert time.monotonic() - began < 1.0
    assert all(w.writes(0.3) for w in writers)
    fence.down()  # taking it down twice does no harm
    assert all(w.writes(0.3) for w in writers)


@pytest.mark.root
def test_all_or_none(writers, hierarchy):
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
        fence = FreezeFence([os.fsencode(writers[0].group), os.fsencode(ours)], 5.0)
        with pytest.raises(StateError, match="holds the agent itself"):
            fence.up()
        assert writers[0].writes(0.3)
    finally:
        (hierarchy / home.lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))
        ours.rmdir()


def test_a_group_that_cannot_be_frozen_is_refused_before_anything_stands_still(tmp_path):
    with pytest.raises(LiveliftError, match="cannot be frozen"):
        FreezeFence([os.fsencode(tmp_path)])


def test_a_group_that_fails_lets_the_others_go(monkeypatch):
    class Fake:
        def __init__(self, path: bytes) -> None:
            self.path = path
            self.frozen = False
            made.append(self)

        def freeze(self, timeout: float) -> None:
            self.frozen = True
            if self.path == b"bad":
                raise OSError("no such cgroup any more")

        def thaw(self) -> None:
            self.frozen = False

    made: list[Fake] = []
    monkeypatch.setattr("livelift.cutover.fence.Freezer", Fake)
    with pytest.raises(OSError, match="no such cgroup"):
        FreezeFence([b"good", b"bad", b"never reached"]).up()
    assert not any(f.frozen for f in made)


def test_every_group_is_let_go_even_if_one_is_stuck_and_one_is_gone(monkeypatch):
    class Fake:
        def __init__(self, path: bytes) -> None:
            self.path = path

        def thaw(self) -> None:
            if self.path == b"gone":
                raise FileNotFoundError(2, "no such cgroup")
            if self.path == b"stuck":
                raise PermissionError(1, "not permitted")
            thawed.append(self.path)

    thawed: list[bytes] = []
    monkeypatch.setattr("livelift.cutover.fence.Freezer", Fake)
    FreezeFence([b"gone", b"a"]).down()
    with pytest.raises(PermissionError):
        FreezeFence([b"gone", b"stuck", b"b"]).down()
    assert thawed == [b"a", b"b"]


def test_no_fence():
    fence = OpenFence()
    fence.up()
    fence.down()
    assert "none" in fence.name
