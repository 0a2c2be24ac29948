"""A bank at work, and cuts at random moments: made on a kernel that lets the programs load, judged anywhere.

    python -m tests.system.cut_series make postgresql --out DIR [--cuts 50] [--fstype ext4] [--late]
    python -m tests.system.cut_series judge DIR

Each cut becomes an archive of the copy and a line with what had been acknowledged before the cut was asked for and
after it was made. ``--late``: the control, in which content is read late; it must be found damaged.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.loopfs import loop_filesystem
from tests.oracle.pair import ROOT, LivePair, environment
from tests.system.banks import BANKS, Acknowledged

NAMES = ("cut.json", "tree.tar.zst")


class Verdict(NamedTuple):
    """``broken``: what was wrong with a cut, by its number."""

    cuts: int
    transactions: int  # in the last cut
    broken: dict[int, str]


def make(name: str, out: Path, cuts: int, fstype: str, seed: int, late: bool, pause: float) -> None:
    rng = random.Random(seed)
    out.mkdir(parents=True, exist_ok=True)
    with loop_filesystem(fstype, 700) as left, loop_filesystem("xfs", 900) as right, \
            tempfile.TemporaryDirectory(dir="/tmp") as work:  # fmt: skip
        source, target = left / "src", right / "dst"
        source.mkdir()
        target.mkdir()
        bank = BANKS[name](source)
        bank.prepare()
        acknowledged = Path(work) / "acknowledged"
        program = [sys.executable, "-m", "tests.system.late_agent"] if late else None
        with LivePair([(source, target)], Path(work), capture="ebpf", source_program=program) as pair:
            pair.wait(lambda status: status.state == "following", 600)
            command = [sys.executable, "-m", "tests.system.banks", name, source, acknowledged]
            clients = subprocess.Popen(list(map(str, command)), cwd=ROOT, env=environment())
            try:
                while len(Acknowledged.read(acknowledged)) < bank.clients:
                    assert clients.poll() is None, "the clients do not work"
                    time.sleep(0.2)
                for number in range(cuts):
                    time.sleep(rng.random() * pause)
                    before = Acknowledged.read(acknowledged)
                    report = pair.cut(right / "copy", 900)
                    after = Acknowledged.read(acknowledged)
                    assert clients.poll() is None, "the clients do not work any more"
                    _pack(right / "copy" / str(source)[1:], out / str(number), before, after, report)
                    shutil.rmtree(right / "copy")
                    print(f"{name}: cut {number} on {fstype}: {report}", flush=True)
            finally:
                clients.terminate()
                clients.wait(120)
            status = pair.status()
            assert status is not None
            print(f"{name}: gaps {status.raw['gaps_total']}, events {status.raw['events']}", flush=True)


def _pack(tree: Path, to: Path, before: dict[int, int], after: dict[int, int], report: dict[str, Any]) -> None:
    to.mkdir(exist_ok=True)
    with open(to / NAMES[1], "wb") as archive:
        command = ["tar", "-C", tree, "--sparse", "--numeric-owner", "-cf", "-", "."]
        tar = subprocess.Popen(command, stdout=subprocess.PIPE)
        subprocess.run(["zstd", "-1", "-q", "-c"], stdin=tar.stdout, stdout=archive, check=True)
        assert tar.wait() == 0
    (to / NAMES[0]).write_text(json.dumps({"before": before, "after": after, "report": report}))


def judge(name: str, out: Path) -> Verdict:
    broken: dict[int, str] = {}
    transactions = 0
    cuts = sorted(int(path.name) for path in out.iterdir() if path.name.isdigit())
    for number in cuts:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch:
            tree = Path(scratch) / "tree"
            tree.mkdir()
            unpack = f"zstd -dcq {NAMES[1]} | tar -C {tree} --numeric-owner -xf -"
            subprocess.run(["/bin/sh", "-c", unpack], cwd=out / str(number), check=True)
            told = json.loads((out / str(number) / NAMES[0]).read_text())
            try:
                found = BANKS[name](tree).judge()
                for client, count in found.items():
                    least, most = told["before"].get(str(client), 0), told["after"].get(str(client), 0) + 1
                    assert least <= count <= most, f"client {client}: {count} transactions, not {least} to {most}"
                transactions = sum(found.values())
            except Exception as error:  # a database that does not come up says so in its own way
                broken[number] = f"{type(error).__name__}: {str(error)[:300]}"
    return Verdict(len(cuts), transactions, broken)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "judge"])
    parser.add_argument("bank", choices=[*BANKS])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--fstype", default="ext4")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--late", action="store_true")
    parser.add_argument("--pause", type=float, default=3.0, help="seconds between two cuts, at most")
    options = parser.parse_args()
    if options.what == "make":
        make(options.bank, options.out, options.cuts, options.fstype, options.seed, options.late, options.pause)
        return 0
    verdict = judge(options.bank, options.out)
    print(f"{options.bank}: {verdict.cuts} cuts, {len(verdict.broken)} broken, {verdict.transactions} transactions")
    for number, what in verdict.broken.items():
        print(f"  {number}: {what}")
    return 1 if verdict.broken else 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
