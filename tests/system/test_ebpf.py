"""The oracle's sequences, the workloads and the blind spots, captured by eBPF.

Mode `ebpf` needs a kernel that lets fexit programs load: elsewhere tests/system/test_cut_machines.py runs this file in
virtual machines.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.capture.choose import choose
from livelift.errors import PreflightError
from tests.capture.conftest import volume_at
from tests.loopfs import loop_filesystem
from tests.system import test_blind as blind
from tests.system import test_oracle as oracle
from tests.system import test_workloads as workloads
from tests.system.conftest import Disks

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.usefixtures("agents")]

LONG = pytest.mark.long


@pytest.fixture(scope="module", params=["ebpf-syscall", "ebpf"])
def mode(request: pytest.FixtureRequest) -> str:
    """Skips where this kernel refuses it."""
    with loop_filesystem("ext4") as path:
        try:
            choose([volume_at(path, "ext4")], request.param)
        except PreflightError as error:
            pytest.skip(f"{request.param}: {error.args[0]}")
    return str(request.param)


@pytest.mark.parametrize(
    "disks", ["ext4", pytest.param("xfs", marks=LONG), pytest.param("btrfs", marks=LONG)], indirect=True
)
def test_random_sequences(disks: Disks, mode: str, seed: int, tmp_path: Path) -> None:
    oracle.test_random_sequences(disks, mode, seed, tmp_path)


@pytest.mark.long
def test_concurrent_writers_over_one_tree(disks: Disks, mode: str, seed: int, tmp_path: Path) -> None:
    oracle.test_concurrent_writers_over_one_tree(disks, mode, seed, tmp_path)


@pytest.mark.long
def test_every_sequence_of_two_operations_and_500_of_three(disks: Disks, mode: str, seed: int, tmp_path: Path) -> None:
    oracle.test_every_sequence_of_two_operations_and_500_of_three(disks, mode, seed, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("workload", workloads.WORKLOADS, ids=lambda workload: workload.__name__)
def test_a_live_workload_arrives_whole(disks: Disks, workload: workloads.Workload, mode: str, tmp_path: Path) -> None:
    workloads.test_a_live_workload_arrives_whole(disks, workload, mode, tmp_path)


@pytest.mark.long
def test_stores_through_mappings_and_flags_arrive_at_the_cut(disks: Disks, mode: str, tmp_path: Path) -> None:
    blind.test_stores_through_mappings_and_flags_arrive_at_the_cut(disks, mode, tmp_path)


@pytest.mark.long
def test_the_agents_own_files_are_not_followed(disks: Disks, mode: str, tmp_path: Path) -> None:
    blind.test_the_agents_own_files_are_not_followed(disks, mode, tmp_path)


@pytest.fixture
def lazy_kernel() -> Iterator[None]:
    """Writes nothing to disk by itself: what is stored through a mapping stays in memory alone (sysctl/vm.rst)."""
    setting = Path("/proc/sys/vm/dirty_writeback_centisecs")
    before = setting.read_text()
    setting.write_text("0")
    try:
        yield
    finally:
        setting.write_text(before)


@pytest.mark.long
@pytest.mark.usefixtures("lazy_kernel")
def test_a_live_comparison_reads_what_nothing_told_of(disks: Disks, mode: str, tmp_path: Path) -> None:
    blind.test_a_live_comparison_reads_what_nothing_told_of_before_it_calls_it_different(disks, mode, tmp_path)
