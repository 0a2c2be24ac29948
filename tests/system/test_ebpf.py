"""The oracle's sequences, captured by eBPF at the system calls."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from livelift.capture.choose import choose
from livelift.errors import PreflightError
from tests.capture.conftest import volume_at
from tests.system import test_oracle as oracle
from tests.system.conftest import Disks

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.usefixtures("agents", "available")]

LONG = pytest.mark.long
MODE = "ebpf-syscall"


@pytest.fixture(scope="module")
def available() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch:
        try:
            choose([volume_at(Path(scratch), "tmpfs")], MODE)
        except PreflightError as error:
            pytest.skip(f"{MODE}: {error.args[0]}")


@pytest.mark.parametrize(
    "disks", ["ext4", pytest.param("xfs", marks=LONG), pytest.param("btrfs", marks=LONG)], indirect=True
)
def test_random_sequences(disks: Disks, seed: int, tmp_path: Path) -> None:
    oracle.test_random_sequences(disks, MODE, seed, tmp_path)


@pytest.mark.long
def test_concurrent_writers_over_one_tree(disks: Disks, seed: int, tmp_path: Path) -> None:
    oracle.test_concurrent_writers_over_one_tree(disks, MODE, seed, tmp_path)
