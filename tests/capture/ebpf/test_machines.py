"""Mode `ebpf` under stock Debian kernels, in virtual machines: this machine's own kernel may refuse fexit programs.

Needs ../shared/rig/kernelvm.py beside the repository (it boots a Debian kernel on this machine's files) and QEMU. Three
minutes for each kernel, so only with --vm --long.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
KERNELVM = ROOT.parent / "shared/rig/kernelvm.py"
ROUNDS = 20_000

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.root]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("suite", ["bullseye", "bookworm", "trixie"])
def test_mode_ebpf_under_a_debian_kernel(suite: str, tmp_path: Path) -> None:
    """Linux 5.10, 6.1 and 6.12: all of test_fexit.py, and there nothing may be skipped for want of fexit."""
    if not KERNELVM.exists():
        pytest.skip(f"{KERNELVM} is not there")
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed")
    tests = Path(__file__).with_name("test_fexit.py")
    inside = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "--rootdir", ROOT, tests]
    run = [sys.executable, KERNELVM, "run", "--suite", suite, "--share", tmp_path, "--timeout", "1100", "--"]
    done = subprocess.run(
        [*run, "env", f"LIVELIFT_ROUNDS={ROUNDS}", *inside],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "refuses BPF programs" not in done.stdout
    for fstype in ("ext4", "xfs") if suite == "bullseye" else ("ext4", "xfs", "btrfs"):
        assert f"{fstype}: {2 * ROUNDS} positions, 0 violations" in done.stdout
