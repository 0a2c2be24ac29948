"""What no event tells: stores through a mapping, inode flags; and what must not be told: the agent's own files."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from livelift.control.client import ask
from tests.oracle import syscalls
from tests.oracle.compare import assert_equal
from tests.oracle.pair import LivePair
from tests.system.conftest import Disks

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.usefixtures("agents")]

MODES = ("fanotify", "inotify")
NODUMP = 0x40  # FS_NODUMP_FL
SIZE = 1 << 20

STORE = """
import mmap, sys
with open(sys.argv[1], "r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
    print("mapped", flush=True)
    for line in sys.stdin:
        offset, word = line.split()
        mapping[int(offset):int(offset) + len(word)] = word.encode()
        print("stored", flush=True)
"""


class Storer:
    """A process that has a file mapped, shared and writable, and stores when it is told to; it never calls msync(2)."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", STORE, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._answered("mapped")

    def store(self, offset: int, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{offset} {word}\n")
        self._process.stdin.flush()
        self._answered("stored")

    def _answered(self, wanted: str) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == wanted

    def close(self) -> None:
        self._process.communicate(timeout=10)


def flags_of(path: Path) -> int:
    fd = os.open(path, os.O_RDONLY)
    try:
        return syscalls.get_flags(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("mode", MODES)
def test_stores_through_mappings_and_flags_arrive_at_the_cut(disks: Disks, mode: str, tmp_path: Path) -> None:
    """One mapping is older than the agent, one younger; one has dirty pages all the while, so that its later stores
    leave no trace in ctime; after them nothing else happens on the whole file system."""
    for name in ("old", "new", "hot", "unmapped"):
        (disks.source / name).write_bytes(os.urandom(SIZE))
    (disks.source / "flagged").write_bytes(b"flags")
    old = Storer(disks.source / "old")
    storers = [old]
    try:
        with LivePair([(disks.source, disks.target)], tmp_path, capture=mode) as pair:
            pair.wait_following()
            new, hot = Storer(disks.source / "new"), Storer(disks.source / "hot")
            storers += [new, hot]
            hot.store(100, "makes-the-page-dirty")
            pair.wait_following()
            time.sleep(3)  # the look at who has what mapped
            with (disks.source / "unmapped").open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
                mapping[5000:5008] = b"and-gone"  # mapped, stored and unmapped between two looks
            os.sync()
            hot.store(200_000, "first")
            time.sleep(1)
            hot.store(200_100, "second-store-into-a-dirty-page")
            old.store(300_000, "old-mapping")
            new.store(300_000, "new-mapping")
            syscalls.change_flags(os.fsencode(disks.source / "flagged"), add=NODUMP)
            report = pair.cutover()
            assert report["differences"] == 0
    finally:
        for storer in storers:
            storer.close()
    assert_equal(disks.source, disks.target)
    assert b"old-mapping" in (disks.target / "old").read_bytes()
    assert b"second-store" in (disks.target / "hot").read_bytes()
    assert flags_of(disks.target / "flagged") & NODUMP


@pytest.mark.parametrize("mode", MODES)
def test_the_agents_own_files_are_not_followed(disks: Disks, mode: str, tmp_path: Path) -> None:
    """The state directory lies inside of the mapped tree: it never arrives, and the log does not grow by itself."""
    (disks.source / "data").write_bytes(b"data")
    own = Path("var/lib/livelift")
    with LivePair([(disks.source, disks.target)], tmp_path, capture=mode, source_state=disks.source / own) as pair:
        pair.wait_following()
        time.sleep(3)  # the first round of the verification, with its cache, is over
        before = pair.wait_following().raw["last_lsn"]
        time.sleep(3)
        status = pair.look()
        assert status is not None
        assert status.raw["last_lsn"] == before, "the log grows while nothing happens"
        assert not list((disks.target / own).glob("**/*")), "the agent's own files are on the target"
        (disks.source / "data").write_bytes(b"still follows")
        pair.wait_following()
        assert (disks.target / "data").read_bytes() == b"still follows"


RESTLESS = """
import mmap, sys, time
with open(sys.argv[1], "r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
    mapping[0:1] = b"x"
    print("mapped", flush=True)
    for number in range(1 << 30):
        mapping[0:8] = number.to_bytes(8, "big")
        time.sleep(0.01)
"""


@pytest.mark.parametrize("mode", MODES)
def test_a_live_comparison_reads_what_nothing_told_of_before_it_calls_it_different(
    disks: Disks, mode: str, tmp_path: Path
) -> None:
    """One store that stays, one file into which somebody stores all the time, an inode flag. The comparison that runs
    by itself would mend them too, half a minute later and after a warning; it is not waited for here."""
    for name in ("stays", "restless"):
        (disks.source / name).write_bytes(os.urandom(SIZE))
    (disks.source / "flagged").write_bytes(b"flags")
    storer = Storer(disks.source / "stays")
    restless = subprocess.Popen(
        [sys.executable, "-c", RESTLESS, str(disks.source / "restless")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert restless.stdout is not None and restless.stdout.readline() == "mapped\n"
        with LivePair([(disks.source, disks.target)], tmp_path, capture=mode) as pair:
            pair.wait_following()
            storer.store(100, "makes-the-page-dirty")
            storer.store(200, "nothing-tells-of-this")
            syscalls.change_flags(os.fsencode(disks.source / "flagged"), add=NODUMP)
            for _ in range(3):
                verdict = ask(os.fsencode(pair.states["source"]), "verify", 120)
                assert verdict["differences"] == 0, verdict["listing"]
            assert b"nothing-tells-of-this" in (disks.target / "stays").read_bytes()
            assert flags_of(disks.target / "flagged") & NODUMP
            assert "differences, e.g." not in pair.tail(), "the rolling comparison came first"
    finally:
        restless.kill()
        restless.communicate()
        storer.close()
