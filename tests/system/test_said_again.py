"""What the target has lost is said again; the directories around it keep the times that they have on the source."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from livelift.model.record import Kind
from livelift.spool.repair import iterate
from tests.oracle.compare import assert_equal
from tests.oracle.pair import LivePair
from tests.system.conftest import Disks

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.usefixtures("agents")]


def test_a_repair_leaves_no_directory_with_the_time_of_the_replay(disks: Disks, tmp_path: Path) -> None:
    """Nothing happens to the directory on the source when a file in it is made again on the target: it kept the time of
    that, until the next comparison found it (seen in a move between machines, three directories, and in a test that had
    used up its repairs)."""
    for name in ("a", "logs/deep/b"):
        (disks.source / name).parent.mkdir(exist_ok=True, parents=True)
        (disks.source / name).write_text("content\n")
    with LivePair([(disks.source, disks.target)], tmp_path) as pair:
        pair.wait_following()
        for name in ("a", "logs/deep/b"):
            copy = disks.target / name
            before = copy.parent.stat()
            copy.unlink()
            os.utime(copy.parent, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert pair.cutover()["differences"] == 0
        log = list(iterate(os.fsencode(tmp_path / "source-state/spool")))
    repaired = [r.body.detail for r in log if r.kind is Kind.GAP and r.body.reason == "verification"]  # type: ignore[union-attr]
    assert repaired == ["missing on target: file of 8 bytes"] * 2, "the times of their directories came along"
    assert_equal(disks.source, disks.target)
