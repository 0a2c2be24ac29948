"""1,000 changes a second for 15 seconds: how old is what the target has (lag), and what does keeping up cost.

Every twentieth change goes to a numbered probe file. An observer that knows nothing of the programs looks on the target
for the number in each outstanding probe and takes the time since the write returned on the source: one machine, one
clock.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import data, services
from benchmarks.accounting import CpuGroup
from benchmarks.copies import Bench
from benchmarks.peers import LIVELIFT, Peer, live_pair
from benchmarks.report import Row
from benchmarks.volumes import Volume

RATE = 1000
PROBE_EVERY = 20
FILES = 3000
PATIENCE = 60.0

Follower = Callable[[CpuGroup, Path, Path, Path], contextlib.AbstractContextManager[None]]


def seconds(quick: bool) -> int:
    return 3 if quick else 15


@contextlib.contextmanager
def lsyncd(group: CpuGroup, work: Path, source: Path, target: Path) -> Iterator[None]:
    """lsyncd with an rsync daemon behind it and no delay: its fastest ordinary set-up."""
    with services.rsyncd(group, work, target) as url:
        config = work / "lsyncd.conf"
        config.write_text(
            f'settings {{ logfile = "{work}/lsyncd.log", nodaemon = true, maxProcesses = 1 }}\n'
            f'sync {{ default.rsync, source = "{source}/", target = "{url}", delay = 0,\n'
            "  rsync = { archive = true, acls = true, xattrs = true, hard_links = true, sparse = true,\n"
            '  _extra = { "--numeric-ids" } } }\n'
        )
        with (work / "lsyncd.out").open("wb") as output:
            process = subprocess.Popen([*group.prefix, "lsyncd", str(config)], stdout=output, stderr=output)
        try:
            expected = data.survey(source)
            deadline = time.monotonic() + PATIENCE
            while data.survey(target) != expected:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"lsyncd: no initial copy: {(work / 'lsyncd.out').read_text()[-1000:]}")
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            process.wait(10)
            for name in ("lsyncd.conf", "lsyncd.log", "lsyncd.out"):
                (work / name).unlink(missing_ok=True)


@contextlib.contextmanager
def following(group: CpuGroup, work: Path, source: Path, target: Path) -> Iterator[None]:
    with live_pair(group, work, source, target) as pair:
        pair.start_source()
        pair.wait_following(300)
        yield


@contextlib.contextmanager
def _never(*_: object) -> Iterator[Callable[[], None]]:
    raise RuntimeError("lsyncd does not copy once")
    yield  # pragma: no cover


FOLLOWERS: tuple[tuple[Peer, Follower], ...] = ((LIVELIFT, following), (Peer("lsyncd", False, _never), lsyncd))


def run_changes(bench: Bench) -> Iterator[Row]:
    duration = seconds(bench.quick)
    with (
        Volume(bench.work, "source", 2 * data.GIB, 50_000) as left,
        Volume(bench.work, "target", 2 * data.GIB, 50_000) as right,
    ):
        source, target = left.path / "data", right.path / "replica"
        for _ in range(bench.rounds or (1 if bench.quick else 3)):
            for peer, follow in FOLLOWERS:
                if bench.peers and peer.name not in bench.peers:
                    continue
                left.renew()
                right.renew()
                prepare(source, duration)
                target.mkdir()
                with CpuGroup("livelift-benchmark") as group, follow(group, bench.work, source, target):
                    time.sleep(1)
                    cpu = group.cpu()
                    values = observe(source, target, duration)
                    values["CPU s"] = group.cpu() - cpu
                    yield Row("changes", peer.name, peer.encrypted, values)


def prepare(source: Path, duration: int) -> None:
    for directory in range(30):
        (source / f"{directory}").mkdir(parents=True)
    for number in range(FILES):
        (source / f"{number % 30}" / f"file-{number}").write_bytes(b"0" * data.KIB)
    for probe in range(duration * RATE // PROBE_EVERY):
        (source / f"{probe % 30}" / f"probe-{probe}").write_bytes(b"%016d" % 0 + b"p" * (data.KIB - 16))


def observe(source: Path, target: Path, duration: int) -> dict[str, float]:
    """Run the writer, wait for every probe: lag in ms, and how long after the last write everything had arrived."""
    writer = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.writer", str(source), str(duration)], stdout=subprocess.PIPE
    )
    seen: dict[int, float] = {}
    waiting = list(range(duration * RATE // PROBE_EVERY))
    give_up = time.monotonic() + duration + PATIENCE
    fresh = 0
    while waiting and time.monotonic() < give_up:
        # Of the probes that are not due yet only 40 (0.8 s of writing) are looked at: the observer must cost little.
        due = waiting[: max(40, fresh)]
        missing = []
        for probe in due:
            with (target / f"{probe % 30}" / f"probe-{probe}").open("rb") as file:
                if int(file.read(16) or b"0") == probe + 1:
                    seen[probe] = time.monotonic()
                else:
                    missing.append(probe)
        fresh = len(missing) + 40
        waiting = missing + waiting[len(due) :]
        time.sleep(0.004)
    output, _ = writer.communicate()
    if writer.returncode != 0:
        raise RuntimeError("changes: the writer failed")
    report = json.loads(output)
    written = dict(enumerate(report["probes"]))
    if waiting:
        raise RuntimeError(f"changes: {len(waiting)} of {len(written)} probes never arrived")
    lags = sorted((seen[probe] - written[probe]) * 1000 for probe in written)
    cuts = statistics.quantiles(lags, n=100)
    return {
        "lag p50 ms": max(cuts[49], 0.0),
        "lag p95 ms": max(cuts[94], 0.0),
        "lag p99 ms": max(cuts[98], 0.0),
        "converged after s": max(0.0, max(seen.values()) - report["end"]),
        "changes/s": report["rate"],
    }
