"""A part of the events is lost and nobody knows: the closing verification finds what came of it, and makes it good."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.oracle.compare import assert_equal
from tests.oracle.ops import RandomOps
from tests.oracle.pair import LivePair
from tests.system.conftest import Disks
from tests.system.test_oracle import made

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.usefixtures("agents")]

LONG = pytest.mark.long


@pytest.mark.parametrize("mode", ["fanotify", pytest.param("ebpf-syscall", marks=LONG)])
def test_what_was_not_heard_is_found_and_made_good(disks: Disks, mode: str, seed: int, tmp_path: Path) -> None:
    """The log has names that are gone, names of files that have another one by now, and lacks others. A repair that
    relied on it came to no end (seen once with a full ring in mode ebpf, and with this at three of four)."""
    workers = [RandomOps(made(disks.source / f"{seed + n}"), seed + n) for n in range(6)]
    for worker in workers:
        worker.run(200)
    deaf = [sys.executable, "-m", "tests.system.deaf_agent"]
    with LivePair([(disks.source, disks.target)], tmp_path, capture=mode, source_program=deaf) as pair:
        pair.wait_following()
        for _ in range(20):
            for worker in workers:
                worker.run(20)
        pair.cutover(120)
        assert "verification" in pair.gaps(), "something was not heard"
    for worker in workers:
        worker.close()
    assert_equal(disks.source, disks.target)
