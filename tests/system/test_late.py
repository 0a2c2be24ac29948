"""What happened just before the fence is looked at behind it: the drain comes to its end."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.oracle.compare import assert_equal
from tests.oracle.pair import LivePair
from tests.system.conftest import Disks
from tests.system.test_oracle import made

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.usefixtures("agents")]


@pytest.mark.parametrize("mode", ["fanotify", "ebpf-syscall"])
def test_a_directory_that_leaves_with_what_is_still_to_be_read(
    disks: Disks, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may turn up elsewhere, so it is kept aside; what is to be read below it cannot be found there meanwhile. The
    drain waited for the reading, and what is aside was given up behind the drain: the cutover was refused when its
    time had passed (seen in mode ebpf on a machine that had little time, XFS under 5.10 and btrfs under 6.1)."""
    inside = made(disks.source / "in/deep") / "file"
    inside.write_bytes(b"one")
    monkeypatch.setenv("LIVELIFT_LATE", str(tmp_path))
    late = [sys.executable, "-m", "tests.system.late_agent"]
    with LivePair([(disks.source / "in", disks.target)], tmp_path / "pair", capture=mode, source_program=late) as pair:
        pair.wait_following()
        with ThreadPoolExecutor(1) as pool:
            cutting = pool.submit(pair.cutover, 30)
            pair.wait(lambda _: (tmp_path / "reached").exists(), 60)
            inside.write_bytes(b"two")
            os.rename(inside.parent, disks.source / "out")
            (tmp_path / "go").touch()
            cutting.result()
    assert_equal(disks.source / "in", disks.target)
