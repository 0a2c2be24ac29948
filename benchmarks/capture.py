"""What a write costs the writer while it is captured: 4 KiB and 64 KiB, with each mode that works here and with none.

fio writes into a file on an ext4 of its own (psync, buffered, random offsets), once as fast as it can and once at RATE,
a disk's speed; this process drains the capture and throws the events away. So the figure is the price of the kernel's
part and of one reader beside it, on as many cores as there are, not of the whole agent. Records that found no room in
the ring are counted: a mode that drops records is cheap.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.copies import Bench
from benchmarks.pgbench import BINARIES, Cluster, measured
from benchmarks.report import Row
from livelift.capture.choose import MODES, choose
from livelift.errors import PreflightError
from livelift.ports import Capture, Exact, Lost, Synced, WatchedVolume
from tests.loopfs import loop_filesystem

SIZES = {"4 KiB": 4 << 10, "64 KiB": 64 << 10}
NOTHING = "no capture"
NAMES = (NOTHING, *(mode.name for mode in MODES))
MIB = 256
RATE = 100
"""MB/s of the second run."""


class Drain:
    """Reads a capture until it is closed, and then to the end of what has happened; counts what came."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._ended = False
        self._thread = threading.Thread(target=self._run)
        self.records = self.lost = 0
        self._thread.start()

    def _run(self) -> None:
        while not self._ended:
            for event in self._capture.read(0.05):
                self._ended = self._ended or isinstance(event, Synced)
                self.records += isinstance(event, Exact)
                if isinstance(event, Lost):  # of one file: the number of records is in its reason
                    self.lost += int(next(iter(re.findall(r"\d+", event.reason)), 1))

    def finish(self) -> None:
        """Or what still waits in the ring would count as neither told nor lost."""
        self._capture.sync(1)
        self._thread.join()

    def close(self) -> None:
        self.finish()
        self._capture.close()


def run_capture(bench: Bench) -> Iterator[Row]:
    """Modes in turn, then again. With --quick 16 MiB instead of 256."""
    if shutil.which("fio") is None:
        print("capture: no fio (Debian package fio)", file=sys.stderr)
        return
    with loop_filesystem("ext4", 700) as path:
        volume = WatchedVolume(0, os.fsencode(path), "ext4", os.stat(path).st_dev)
        names = [name for name in NAMES if not bench.peers or name in bench.peers]
        for _ in range(bench.rounds or (1 if bench.quick else 3)):
            for label, size in SIZES.items():
                for rate in (0, RATE):
                    case = f"capture {label}" + (f" at {rate} MB/s" if rate else "")
                    for name in names:
                        row = _one(case, name, size, volume, path, 16 if bench.quick else MIB, rate)
                        if row is not None:
                            yield row
        yield from _databases(bench, names, volume, path)


def _databases(bench: Bench, names: list[str], volume: WatchedVolume, path: Path) -> Iterator[Row]:
    """pgbench, with each mode and with none."""
    if not BINARIES:
        print("capture: no PostgreSQL for pgbench", file=sys.stderr)
        return
    (path / "file").unlink()
    (path / "data").mkdir()
    cluster = Cluster(path / "data")
    with cluster.running():
        cluster.bench("-i", "-q", "-s", "1" if bench.quick else "5")
        for _ in range(bench.rounds or (1 if bench.quick else 3)):
            for name in names:
                with ExitStack() as undo:
                    drain = _captured("capture pgbench", name, volume, undo)
                    if drain is None and name != NOTHING:
                        continue
                    values = measured(cluster, "3" if bench.quick else "15")
                    yield Row("capture pgbench", name, True, {**values, **_counted(drain)})


def _captured(case: str, name: str, volume: WatchedVolume, undo: ExitStack) -> Drain | None:
    """The mode, running and read; None for no capture, or (with a message) where it does not run."""
    if name == NOTHING:
        return None
    try:
        capture, _ = choose([volume], name)
        capture.start([volume], lambda _: False)
    except PreflightError as error:
        print(f"{case}: without {name}: {error.args[0]}", file=sys.stderr)
        return None
    drain = Drain(capture)
    undo.callback(drain.close)
    return drain


def _counted(drain: Drain | None) -> dict[str, float]:
    if drain is not None:
        drain.finish()
    return {"records": float(drain.records if drain else 0), "not told": float(drain.lost if drain else 0)}


def _one(case: str, name: str, size: int, volume: WatchedVolume, path: Path, mib: int, rate: int) -> Row | None:
    fill = ["dd", "if=/dev/zero", f"of={path / 'file'}", "bs=1M", f"count={mib}", "status=none"]
    subprocess.run(fill, check=True)  # before there is a capture: it is not what is measured
    os.sync()
    with ExitStack() as undo:
        drain = _captured(case, name, volume, undo)
        if drain is None and name != NOTHING:
            return None
        return Row(case, name, True, {**_fio(path / "file", size, mib, rate), **_counted(drain)})


def _fio(file: Path, size: int, mib: int, rate: int) -> dict[str, float]:
    """Completion latency in us; the file is written once before, so that nothing is allocated while it is measured."""
    job = [f"--filename={file}", f"--bs={size}", f"--size={mib}M", "--ioengine=psync", "--rw=randwrite", "--name=w"]
    options = ["--output-format=json", "--randrepeat=1", "--norandommap", "--overwrite=1", "--fallocate=none"]
    if rate:
        options.append(f"--rate={rate * 1_000_000}")
    done = subprocess.run(["fio", *job, *options], capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]["write"]
    percentiles = measured["clat_ns"]["percentile"]
    return {
        "p50 us": percentiles["50.000000"] / 1000,
        "p99 us": percentiles["99.000000"] / 1000,
        "MB/s": measured["bw_bytes"] / 1e6,
    }
