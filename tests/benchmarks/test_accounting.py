"""The cgroup counts what ran in it, ended or not, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.accounting import CpuGroup

pytestmark = pytest.mark.root

BURN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


def test_ended_processes_and_their_children_are_counted() -> None:
    with CpuGroup("livelift-test-accounting") as group:
        before = group.cpu()
        shell = ["sh", "-c", f"{sys.executable} -c '{BURN}' & wait"]
        subprocess.run([*group.prefix, *shell], check=True)
        assert 0.3 <= group.cpu() - before < 2
        inside = group.cpu()
        subprocess.run([sys.executable, "-c", BURN], check=True)  # outside
        assert group.cpu() == inside


def test_the_peak_of_memory_outlives_the_process() -> None:
    with CpuGroup("livelift-test-accounting") as group:
        hold = "import time; x = b'x' * (100 << 20); time.sleep(0.8)"
        subprocess.run([*group.prefix, sys.executable, "-c", hold], check=True)
        assert group.peak_rss() > 100 << 20
        group.forget_memory()
        assert group.peak_rss() == 0


def test_the_group_goes_away() -> None:
    with CpuGroup("livelift-test-accounting") as group:
        path = Path(group.prefix[-1]).parent
        sleeper = subprocess.Popen([*group.prefix, "sleep", "60"])
        time.sleep(0.1)
        sleeper.kill()
        sleeper.wait()
    assert not path.exists()
