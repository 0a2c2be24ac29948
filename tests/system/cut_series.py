"""Databases at work, and cuts at random moments: made in a virtual machine, recovered and judged on this one.

    python -m tests.system.cut_series [BANK...] [--suite bookworm] [--fstype ext4] [--cuts 50] [--late]

Of each cut the copy is kept, with what had been acknowledged before the cut was asked for and after it was made. The
copies lie on a disk (XFS) that both machines see, one after the other. ``--late``: the control, in which content is
read late; it must be found damaged. Exit status 1: a cut was broken (or, with --late, none).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests import kernels
from tests.loopfs import loop_filesystem, run
from tests.oracle.pair import ROOT, LivePair, environment
from tests.system.banks import BANKS, Acknowledged

DISK = Path("/dev/vda")
PREPARED = "prepared"
"""On the disk: the bank before its first transaction, made on this machine, which is thirty times faster."""


class Verdict(NamedTuple):
    """``broken``: what was wrong with a cut, by its number."""

    cuts: int
    transactions: int  # in the last cut
    broken: dict[int, str]


@contextlib.contextmanager
def mounted(what: Path, *options: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:
        run("mount", *options, str(what), place)
        try:
            yield Path(place)
        finally:
            run("umount", place)


def make(name: str, cuts: int, fstype: str, seed: int, late: bool, pause: float) -> None:
    """In the virtual machine."""
    rng = random.Random(seed)
    with loop_filesystem(fstype, 700) as left, mounted(DISK) as right, tempfile.TemporaryDirectory() as work:
        source, target = left / "src", right / "dst"
        source.mkdir()
        target.mkdir()
        run("cp", "-a", "--sparse=always", f"{right / PREPARED}/.", str(source))
        bank = BANKS[name](source)
        acknowledged = Path(work) / "acknowledged"
        program = [sys.executable, "-m", "tests.system.late_agent"] if late else None
        with LivePair([(source, target)], Path(work), capture="ebpf", source_program=program) as pair:
            pair.wait(lambda status: status.state == "following", 100)
            command = [sys.executable, "-m", "tests.system.banks", name, source, acknowledged]
            clients = subprocess.Popen(list(map(str, command)), cwd=ROOT, env=environment())
            try:
                while len(Acknowledged.read(acknowledged)) < bank.clients:
                    assert clients.poll() is None, "the clients do not work"
                    time.sleep(0.2)
                for number in range(cuts):
                    time.sleep(rng.random() * pause)
                    before = Acknowledged.read(acknowledged)
                    report = pair.cut(right / f"cut-{number}", 900)
                    after = Acknowledged.read(acknowledged)
                    assert clients.poll() is None, "the clients do not work any more"
                    told = {"tree": str(source)[1:], "before": before, "after": after, "report": report}
                    (right / f"cut-{number}.json").write_text(json.dumps(told))
                    print(f"{name}: cut {number} on {fstype}: {report}", flush=True)
            finally:
                clients.terminate()
                clients.wait(120)
            status = pair.status()
            assert status is not None
            print(f"{name}: gaps {status.raw['gaps_total']}, events {status.raw['events']}", flush=True)
            if status.raw["gaps_total"]:
                print(pair.tail(), flush=True)


def judge(name: str, out: Path) -> Verdict:
    broken: dict[int, str] = {}
    transactions = 0
    cuts = sorted(int(path.stem.removeprefix("cut-")) for path in out.glob("cut-*.json"))
    for number in cuts:
        told = json.loads((out / f"cut-{number}.json").read_text())
        with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch:
            os.chmod(scratch, 0o755)
            tree = Path(scratch) / "tree"
            run("cp", "-a", "--sparse=always", str(out / f"cut-{number}" / told["tree"]), str(tree))
            try:
                found = BANKS[name](tree).judge()
                for client, count in found.items():
                    least, most = told["before"].get(str(client), 0), told["after"].get(str(client), 0) + 1
                    assert least <= count <= most, f"client {client}: {count} transactions, not {least} to {most}"
                transactions = sum(found.values())
            except Exception as error:  # a database that does not come up says so in its own way
                broken[number] = f"{type(error).__name__}: {str(error)[:300]}"
    return Verdict(len(cuts), transactions, broken)


def said(line: str) -> None:
    print(line, flush=True)


def series(name: str, suite: str, fstype: str, cuts: int, late: bool = False, pause: float = 3.0) -> Verdict:
    """Made under the kernel of ``suite``, judged here. AssertionError: they could not be made."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch:
        disk = Path(scratch) / "disk"
        with disk.open("wb") as file:
            file.truncate(8 << 30)
        run("mkfs.xfs", "-q", str(disk))
        with mounted(disk, "-o", "loop") as place:
            (place / PREPARED).mkdir()
            BANKS[name](place / PREPARED).prepare()
        command = ["env", "LIVELIFT_SLOW=10", "LIVELIFT_BANK_PAUSE=0.3", f"PYTHONPATH={ROOT}", sys.executable, "-m"]
        command += ["tests.system.cut_series", name, "--make", "--cuts", str(cuts), "--fstype", fstype]
        command += ["--pause", str(pause), *(["--late"] if late else [])]
        os.chdir(ROOT)
        status = kernels.under(suite, command, disk=disk, timeout=3 * 3600, line=said)
        assert status == 0, f"exit status {status}: no series was made, see above"
        with mounted(disk, "-o", "loop") as out:
            verdict = judge(name, out)
    how = ", content read late" if late else ""
    counts = f"{verdict.cuts} cuts, {len(verdict.broken)} broken, {verdict.transactions} transactions"
    print(f"{name}, Linux {kernels.SUITES[suite]}, {fstype}{how}: {counts}", flush=True)
    for number, what in verdict.broken.items():
        print(f"  cut {number}: {what}")
    return verdict


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("banks", nargs="*", default=[*BANKS], metavar="BANK", help=", ".join(BANKS))
    parser.add_argument("--suite", default="bookworm", choices=[*kernels.SUITES])
    parser.add_argument("--fstype", default="ext4")
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--late", action="store_true")
    parser.add_argument("--pause", type=float, default=3.0, help="seconds between two cuts, at most")
    parser.add_argument("--make", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    wrong = False
    for name in options.banks:
        if options.make:
            make(name, options.cuts, options.fstype, options.seed, options.late, options.pause)
            continue
        verdict = series(name, options.suite, options.fstype, options.cuts, options.late, options.pause)
        wrong |= bool(verdict.broken) != options.late or verdict.cuts != options.cuts
    return 1 if wrong else 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
