"""System tests need agents that start, and time: the default limit of 60 s is for tests without processes."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from livelift.demo.fence import hierarchy
from livelift.platform.linux.cgroups import Freezer
from tests.loopfs import loop_filesystem
from tests.oracle import trees
from tests.oracle.pair import Agent, why_unavailable
from tests.oracle.slow import SLOW
from tests.system.refusals import Waiting


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


@pytest.fixture(name="trees")
def two_trees(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "src", tmp_path / "dst"
    source.mkdir()
    target.mkdir()
    (source / "file").write_bytes(b"content")
    (source / "directory").mkdir()
    (source / "directory/inner").write_bytes(os.urandom(70_000))
    return source, target


@pytest.fixture
def targets(tmp_path: Path) -> Iterator[object]:
    """Starts target agents; all are stopped at the end."""
    with ExitStack() as undo:
        count = iter(range(100))

        def start(*maps: tuple[object, object], state: Path | None = None, words: tuple[str, ...] = ()) -> Waiting:
            state = state or tmp_path / f"target-{next(count)}"
            arguments = ["target", "--listen", "127.0.0.1:0", "--json", "--state", str(state), *words]
            for one, other in maps:
                arguments += ["--map", f"{one}={other}"]
            agent = Agent("target", arguments, tmp_path / f"log-{next(count)}.json")
            undo.callback(agent.stop)
            event = agent.wait_event(lambda e: e.get("event") == "pairing", 20)
            return Waiting(agent, state, event["code"], event["port"])

        yield start
