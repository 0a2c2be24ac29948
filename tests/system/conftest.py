"""System tests need agents that start, and time: the default limit of 60 s is for tests without processes."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from livelift.demo.fence import hierarchy
from livelift.platform.linux.cgroups import Freezer
from tests.loopfs import loop_filesystem
from tests.oracle import trees
from tests.oracle.pair import why_unavailable
from tests.oracle.slow import SLOW


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(300 * SLOW))


@pytest.fixture(scope="session")
def agents() -> None:
    """Skips where this checkout has no agents that start."""
    if reason := why_unavailable():
        pytest.skip(reason)


class Disks(NamedTuple):
    """A source and a replica directory, each on a fresh file system of its own."""

    source: Path
    target: Path
    source_volume: Path
    target_volume: Path


@pytest.fixture
def disks(request: pytest.FixtureRequest) -> Iterator[Disks]:
    """Parametrise indirectly with a file system type, or with (type, MiB of the source, MiB of the target)."""
    wanted = getattr(request, "param", "ext4")
    fstype, one, two = wanted if isinstance(wanted, tuple) else (wanted, 700, 700)
    with loop_filesystem(fstype, one) as left, loop_filesystem(fstype, two) as right:
        disks = Disks(left / "src", right / "dst", left, right)
        disks.source.mkdir()
        disks.target.mkdir()
        yield disks
        for tree in (disks.source, disks.target):
            trees.clean_flags(tree)


@pytest.fixture
def service() -> Iterator[tuple[Path, Callable[[str], subprocess.Popen[bytes]]]]:
    """A cgroup of the test's own, and how to start a shell loop in it."""
    group = hierarchy() / f"livelift-test-{os.getpid()}"
    group.mkdir()
    started: list[subprocess.Popen[bytes]] = []

    def start(script: str) -> subprocess.Popen[bytes]:
        enter = f"echo $$ > {group}/cgroup.procs && exec /bin/sh -c {script!r}"
        started.append(subprocess.Popen(["/bin/sh", "-c", enter]))
        _wait(lambda: str(started[-1].pid) in (group / "cgroup.procs").read_text().split(), "it enters its group")
        return started[-1]

    try:
        yield group, start
    finally:
        for process in started:
            process.kill()
        Freezer(os.fsencode(group)).thaw()
        for process in started:
            process.wait(10)
        _wait(lambda: not (group / "cgroup.procs").read_text().split(), "the group is empty")
        group.rmdir()


def _wait(condition: Callable[[], bool], what: str, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not in {timeout} s: {what}"
        time.sleep(0.05)
