"""Cuts of databases at work, under kernels that let the programs load; judged on this machine.

``LIVELIFT_CUTS``: how many of each (50). The numbers of the runs so far: docs/internals/ebpf.md.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests import kernels
from tests.oracle.pair import ROOT
from tests.system.banks import BANKS
from tests.system.cut_series import Verdict, judge

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(6 * 3600)]

CUTS = int(os.environ.get("LIVELIFT_CUTS", "50"))


def series(name: str, suite: str, fstype: str, cuts: int, out: Path, *options: str) -> Verdict:
    if reason := kernels.missing() or BANKS[name](out).missing():
        pytest.skip(reason)
    out.mkdir()
    command = ["env", "LIVELIFT_SLOW=10", "LIVELIFT_BANK_PAUSE=0.3", f"PYTHONPATH={ROOT}", sys.executable]
    command += ["-m", "tests.system.cut_series", "make", name, "--cuts", str(cuts), "--fstype", fstype]
    said: list[str] = []
    os.chdir(ROOT)
    status = kernels.under(suite, [*command, "--out", out, *options], out, timeout=5 * 3600, line=said.append)
    assert status == 0, "\n".join(said[-60:])
    print(*said, sep="\n")
    verdict = judge(name, out)
    print(f"{name}, {suite}, {fstype}: {verdict.cuts} cuts, {len(verdict.broken)} broken, {verdict.transactions} done")
    assert verdict.cuts == cuts
    return verdict


@pytest.mark.parametrize(
    ("name", "suite", "fstype"),
    [
        ("sqlite-wal", "bookworm", "ext4"),
        ("sqlite-rollback", "trixie", "btrfs"),
        ("lmdb", "bookworm", "xfs"),
        ("lmdb-writemap", "trixie", "ext4"),
        ("redis", "bookworm", "btrfs"),
        ("postgresql", "bookworm", "ext4"),
        ("mariadb", "trixie", "xfs"),
    ],
)
def test_every_cut_is_the_first_so_many_transactions(name: str, suite: str, fstype: str, tmp_path: Path) -> None:
    verdict = series(name, suite, fstype, CUTS, tmp_path / "out")
    assert verdict.broken == {} and verdict.transactions > 0


def test_the_same_with_content_that_is_read_late_is_broken(tmp_path: Path) -> None:
    """The control: only the moment of reading is another one."""
    verdict = series("sqlite-rollback", "bookworm", "ext4", CUTS, tmp_path / "out", "--late")
    assert verdict.broken


def test_the_ladder(tmp_path: Path) -> None:
    """tests/system/test_cuts.py, where nothing may be skipped."""
    if reason := kernels.missing():
        pytest.skip(reason)
    command = ["env", "LIVELIFT_SLOW=10", f"PYTHONPATH={ROOT}", "PYTHONDONTWRITEBYTECODE=1", sys.executable, "-m"]
    command += ["pytest", "-q", "-s", "-p", "no:cacheprovider", str(Path(__file__).with_name("test_cuts.py"))]
    said: list[str] = []
    assert kernels.under("bookworm", command, timeout=5000, line=said.append) == 0, "\n".join(said[-60:])
    assert not any("refuses BPF programs" in line for line in said)
