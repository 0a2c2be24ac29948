"""System tests need agents that start, and time: the default limit of 60 s is for tests without processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.loopfs import loop_filesystem
from tests.oracle import trees
from tests.oracle.pair import why_unavailable


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(300))


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
