"""Cuts without a fence: copies of the replica at positions that were found while programs wrote.

Needs a kernel that lets fexit programs load; elsewhere tests/system/test_cut_machines.py runs this file in a virtual
machine.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from livelift.capture.choose import choose
from livelift.errors import PreflightError
from tests.capture.conftest import volume_at
from tests.oracle.pair import LivePair
from tests.oracle.slow import SLOW

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.timeout(1800), pytest.mark.usefixtures("agents")]

CUTS = int(os.environ.get("LIVELIFT_CUTS", "5"))
PAUSE = 0.05 * SLOW
"""Seconds between two rounds of the ladder, which are 16 changes: an agent in an emulated machine is slow, too."""


def in_mode_ebpf(path: Path, fstype: str) -> None:
    """Skips where this kernel refuses it."""
    try:
        choose([volume_at(path, fstype)], "ebpf")
    except PreflightError as error:
        pytest.skip(f"ebpf: {error.args[0]}")


@pytest.fixture(params=["ext4", "xfs", "btrfs"])
def fstype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


LADDER = """
import os, struct, sys, time
os.chdir(sys.argv[1])
pause = float(sys.argv[2])
pack = struct.Struct("<Q").pack
a, b, c = (os.open(name, os.O_RDWR | os.O_CREAT) for name in "abc")
n = 0
while True:
    n += 1
    os.pwrite(a, pack(n), 0)  # a is n before b is
    os.pwrite(b, pack(n), 0)
    new = os.open("new", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.write(new, pack(n) * 600)
    os.close(new)
    os.rename("new", "latest")  # whole before it has its name
    os.pwrite(c, pack(n), 0)  # latest is n before c is
    os.mkdir(f"d{n}")
    os.link("latest", f"d{n}/link")
    if n > 3:
        os.unlink(f"d{n - 3}/link")
        os.rmdir(f"d{n - 3}")
    os.ftruncate(a, 4096 + n % 100)
    os.pwrite(b, pack(n), 8)  # a is as long before b says so
    time.sleep(pause)
"""


def judge_ladder(tree: Path) -> int:
    """That what was done first is there first; how far it had come."""

    def number(name: str, at: int = 0) -> int:
        return int(struct.unpack_from("<Q", (tree / name).read_bytes(), at)[0])

    a, b, c = number("a"), number("b"), number("c")
    assert b <= a <= b + 1
    whole = (tree / "latest").read_bytes()
    latest = number("latest")
    assert whole == struct.pack("<Q", latest) * 600
    assert c <= latest <= c + 1 and latest <= b <= latest + 1
    if (tree / "new").exists():
        assert latest == b - 1
        content = (tree / "new").read_bytes()
        assert content in (b"", struct.pack("<Q", b) * 600)
    directories = sorted(int(path.name[1:]) for path in tree.glob("d*"))
    assert directories[-1] in (c, c - 1) and set(directories) <= set(range(c - 4, c + 1))
    told = number("b", 8)
    assert (tree / "a").stat().st_size in {4096 + n % 100 for n in (told, told + 1)}, "the size is behind or ahead"
    return a


def test_what_was_done_first_is_in_every_cut(fstype: str, tmp_path: Path) -> None:
    from tests.loopfs import loop_filesystem

    with loop_filesystem(fstype, 400) as left, loop_filesystem("xfs", 700) as right:
        in_mode_ebpf(left, fstype)
        source, target = left / "src", right / "dst"
        source.mkdir()
        target.mkdir()
        with LivePair([(source, target)], tmp_path, capture="ebpf") as pair:
            pair.wait(lambda status: status.state == "following", 300)
            writer = subprocess.Popen([sys.executable, "-c", LADDER, source, str(PAUSE)])
            try:
                deadline = time.monotonic() + 60
                while not (source / "c").exists() or (source / "c").read_bytes() < struct.pack("<Q", 9):
                    assert time.monotonic() < deadline and writer.poll() is None
                    time.sleep(0.1)
                seen = []
                for number in range(CUTS):
                    before = struct.unpack("<Q", (source / "a").read_bytes()[:8])[0]
                    report = pair.cut(right / f"copy-{number}")
                    assert writer.poll() is None
                    seen.append(judge_ladder(right / f"copy-{number}" / str(source)[1:]))
                    assert seen[-1] >= before, "what was acknowledged before the question is missing"
                    print(f"{fstype}: cut {number}: n={seen[-1]} {report}")
            finally:
                writer.kill()
                writer.wait()
            assert seen == sorted(set(seen)), "it did not go on"
            assert pair.status().raw["gaps_total"] == 0
            pair.wait_following(120)
            pair.cutover(300)
