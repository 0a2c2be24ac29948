"""Cuts under kernels that let the programs load, in virtual machines; judged on this one.

``LIVELIFT_CUTS``: how many of each database in the long tests (50). The figures so far: docs/guarantees.md.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests import kernels
from tests.oracle.pair import ROOT
from tests.system.banks import BANKS
from tests.system.cut_series import Verdict, series

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.timeout(4 * 3600)]

CUTS = int(os.environ.get("LIVELIFT_CUTS", "50"))

long = pytest.mark.long


def tried(name: str, suite: str, fstype: str, cuts: int, late: bool = False) -> Verdict:
    if reason := kernels.lacking(suite) or BANKS[name](Path("/")).missing():
        pytest.skip(reason)
    verdict = series(name, suite, fstype, cuts, late)
    assert verdict.cuts == cuts
    return verdict


@pytest.mark.parametrize(
    ("name", "suite", "fstype", "cuts"),
    [
        ("sqlite-rollback", "bookworm", "ext4", 3),
        pytest.param("lmdb", "bookworm", "ext4", 3, marks=pytest.mark.vm),
        pytest.param("postgresql", "bookworm", "ext4", 3, marks=pytest.mark.vm),
        pytest.param("sqlite-wal", "bookworm", "ext4", CUTS, marks=long),
        pytest.param("sqlite-rollback", "trixie", "btrfs", CUTS, marks=long),
        pytest.param("lmdb", "bookworm", "xfs", CUTS, marks=long),
        pytest.param("lmdb-writemap", "trixie", "ext4", CUTS, marks=long),
        pytest.param("redis", "bookworm", "btrfs", CUTS, marks=long),
        pytest.param("postgresql", "bookworm", "ext4", CUTS, marks=long),
        pytest.param("mariadb", "trixie", "xfs", CUTS, marks=long),
    ],
)
def test_every_cut_is_the_first_so_many_transactions(name: str, suite: str, fstype: str, cuts: int) -> None:
    verdict = tried(name, suite, fstype, cuts)
    assert verdict.broken == {} and verdict.transactions > 0


@long
def test_the_same_with_content_that_is_read_late_is_broken() -> None:
    """The control: only the moment of reading is another one."""
    assert tried("sqlite-rollback", "bookworm", "ext4", CUTS, late=True).broken


def run_there(suite: str, *arguments: str | Path) -> None:
    """Tests under that kernel, where none may be skipped for want of fexit."""
    if reason := kernels.lacking(suite):
        pytest.skip(reason)
    command = ["env", "LIVELIFT_SLOW=30", f"PYTHONPATH={ROOT}", "PYTHONDONTWRITEBYTECODE=1", sys.executable, "-m"]
    command += ["pytest", "-q", "-s", "-p", "no:cacheprovider", "--timeout=5000", *map(str, arguments)]
    said: list[str] = []

    def line(text: str) -> None:
        print(text, flush=True)
        said.append(text)

    status = kernels.under(suite, command, timeout=3 * 3600, line=line)
    assert status == 0, "\n".join(said[-60:])
    assert not any("refuses BPF programs" in line for line in said)


@long
def test_the_ladder() -> None:
    run_there("bookworm", Path(__file__).with_name("test_cuts.py"))


@long
@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_the_oracle(suite: str) -> None:
    """Mode `ebpf`: random sequences on ext4, XFS and btrfs; all short ones, concurrent writers, the live workloads and
    what other modes are blind to on ext4."""
    run_there(suite, Path(__file__).with_name("test_ebpf.py"), "--long", "-k", "not syscall")


def test_the_oracle_under_one_kernel() -> None:
    """Short, so that it is run with all others: random sequences on ext4 under 6.1."""
    run_there("bookworm", Path(__file__).with_name("test_ebpf.py"), "-k", "random and ext4 and not syscall")
