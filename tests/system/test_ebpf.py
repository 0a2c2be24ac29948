"""The oracle's sequences, the workloads and the blind spots, captured by eBPF at the system calls."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from livelift.capture.choose import choose
from livelift.errors import PreflightError
from tests.capture.conftest import volume_at
from tests.system import test_blind as blind
from tests.system import test_oracle as oracle
from tests.system import test_workloads as workloads
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


@pytest.mark.long
@pytest.mark.parametrize("workload", workloads.WORKLOADS, ids=lambda workload: workload.__name__)
def test_a_live_workload_arrives_whole(disks: Disks, workload: workloads.Workload, tmp_path: Path) -> None:
    workloads.test_a_live_workload_arrives_whole(disks, workload, MODE, tmp_path)


@pytest.mark.long
def test_stores_through_mappings_and_flags_arrive_at_the_cut(disks: Disks, tmp_path: Path) -> None:
    blind.test_stores_through_mappings_and_flags_arrive_at_the_cut(disks, MODE, tmp_path)


@pytest.mark.long
def test_the_agents_own_files_are_not_followed(disks: Disks, tmp_path: Path) -> None:
    blind.test_the_agents_own_files_are_not_followed(disks, MODE, tmp_path)
