"""The change log is full because the link stalls: the workload never waits, and everything is made good afterwards."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.oracle.compare import assert_equal
from tests.oracle.pair import LivePair
from tests.system.conftest import Disks

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.usefixtures("agents")]

MIB = 1 << 20
CAP = 8 * MIB
FILES = 120
SIZE = MIB // 4


def write_for(directory: Path, chooser: random.Random, seconds: float, enough: int) -> list[float]:
    """Overwrites in files that the target has: how long each write(2) took. ``enough``: bytes, then it ends too."""
    took: list[float] = []
    end = time.monotonic() + seconds
    written = 0
    while time.monotonic() < end and written < enough:
        path = directory / f"file-{chooser.randrange(FILES)}"
        with path.open("r+b", buffering=0) as file:
            file.seek(chooser.randrange(SIZE - 65536))
            data = chooser.randbytes(65536)
            began = time.monotonic()
            file.write(data)
            took.append(time.monotonic() - began)
        written += len(data)
        time.sleep(0.002)
    return took


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


@pytest.mark.parametrize("mode", ["fanotify", "inotify"])
def test_a_full_spool_never_stops_a_writer(disks: Disks, mode: str, seed: int, tmp_path: Path) -> None:
    chooser = random.Random(seed)
    data = disks.source / "data"
    data.mkdir()
    for number in range(FILES):
        (data / f"file-{number}").write_bytes(chooser.randbytes(SIZE))
    maps, arguments = [(disks.source, disks.target)], ["--spool-cap", "8M"]
    with LivePair(maps, tmp_path, capture=mode, proxy=True, source_arguments=arguments) as pair:
        assert pair.proxy is not None
        pair.wait_following()
        easy = write_for(data, chooser, 1.0, 4 * MIB)
        pair.wait_following()
        pair.proxy.stall()
        hard = write_for(data, chooser, 12.0, 48 * MIB)
        for number in range(300):  # names too
            (data / f"new-{number}").write_bytes(b"%d" % number)
            os.rename(data / f"new-{number}", data / f"renamed-{number}")
        status = pair.look()
        assert status is not None
        spool = sum(path.stat().st_blocks * 512 for path in (pair.states["source"] / "spool").iterdir())
        assert spool <= CAP + 2 * MIB, f"the spool has {spool} bytes"
        # A writer that waits for the agent would wait for the link, which moves nothing for seconds.
        assert max(hard) < 1.0, f"a write took {max(hard):.2f} s"
        assert median(hard) < 20 * median(easy) + 0.005
        assert status.gaps or status.raw["paused"], f"the spool was never full: {status.raw}"
        pair.proxy.heal()
        pair.wait_following(120)
        pair.cutover(120)
    assert_equal(disks.source, disks.target)
