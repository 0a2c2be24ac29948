"""Mode `ebpf` under stock Debian kernels, in virtual machines: this machine's own kernel may refuse fexit programs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import kernels

ROOT = Path(__file__).resolve().parents[3]
ROUNDS = 20_000
"""Of the ordering test: twice as many positions on each file system."""

HERE = Path(__file__).parent
FILES = [HERE / name for name in ("test_fexit.py", "test_loss.py", "test_detach.py")]

pytestmark = [pytest.mark.root, pytest.mark.timeout(5000)]


def under(suite: str, rounds: int, *options: str | Path) -> list[str]:
    """Run tests there; nothing may be skipped for want of fexit. Its output."""
    if reason := kernels.lacking(suite):
        pytest.skip(reason)
    said: list[str] = []
    python = sys.executable if kernels.split(suite)[1] == "amd64" else "python3"
    command = ["env", f"LIVELIFT_ROUNDS={rounds}", "PYTHONDONTWRITEBYTECODE=1", f"PYTHONPATH={ROOT}", python]
    command += ["-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "--rootdir", str(ROOT), *map(str, options)]
    status = kernels.under(suite, command, timeout=4800, line=said.append)
    text = "\n".join(said)
    print(text)
    assert status == 0, text[-4000:]
    assert "refuses BPF programs" not in text
    return said


@pytest.mark.vm
@pytest.mark.long
@pytest.mark.parametrize("suite", ["bullseye", "bookworm", "trixie", "trixie-arm64"])
def test_mode_ebpf_under_a_debian_kernel(suite: str) -> None:
    """Linux 5.10, 6.1 and 6.12, the last one on arm64 too: all of test_fexit.py, the losses, and what is left."""
    said = under(suite, ROUNDS, *FILES, "-k", "not tmpfs")
    for fstype in ("ext4", "xfs") if suite == "bullseye" else ("ext4", "xfs", "btrfs"):
        assert any(line.endswith(f"{fstype}: {2 * ROUNDS} positions, 0 violations") for line in said)


def test_the_order_under_one_kernel() -> None:
    """Short, so that it is run with all others: one kernel, one file system, and the control."""
    said = under("bookworm", 3000, HERE / "test_fexit.py", "-k", "ext4 and (position_of or late)")
    assert any(line.endswith("ext4: 6000 positions, 0 violations") for line in said)
