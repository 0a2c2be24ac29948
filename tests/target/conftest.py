"""The scene of a server job, on two file systems of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.loopfs import loop_filesystem
from tests.target.scene import Scene


@pytest.fixture(scope="module")
def disks() -> Iterator[list[Path]]:
    with ExitStack() as undo:
        yield [undo.enter_context(loop_filesystem("ext4", 120)) for _ in range(2)]


@pytest.fixture
def scene(disks: list[Path], tmp_path: Path) -> Iterator[Scene]:
    yield Scene(disks, tmp_path)
    for disk in disks:
        subprocess.run(["rm", "-rf", str(disk / ".livelift")], check=True)
