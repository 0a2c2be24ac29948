"""What a database on the source loses while it is captured: pgbench with and without Livelift following, in turn."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import data
from benchmarks.accounting import CpuGroup, free_port
from benchmarks.copies import Bench
from benchmarks.peers import LIVELIFT, live_pair
from benchmarks.report import Row
from benchmarks.volumes import Volume, run

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


class Cluster:
    """A PostgreSQL cluster with ordinary durability settings below ``data``; runs as the user postgres."""

    def __init__(self, directory: Path) -> None:
        if not BINARIES:
            raise RuntimeError("pgbench: no PostgreSQL below /usr/lib/postgresql")
        self.data = directory / "pg"
        self.port = str(free_port())
        for path in (directory, *list(directory.parents)[:2]):
            os.chmod(path, 0o755)
        shutil.chown(directory, "postgres", "postgres")
        self.call("initdb", "-D", self.data, "--no-sync")

    def call(self, program: str, *arguments: str | Path) -> str:
        os.chdir("/")  # the user postgres may not be allowed where we are
        return run(
            "setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", BINARIES[-1] / program, *arguments
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        options = f"-p {self.port} -k {self.data} -c listen_addresses= -c shared_buffers=128MB"
        self.call("pg_ctl", "-D", self.data, "-w", "-l", self.data / "log", "-o", options, "start")
        try:
            yield
        finally:
            self.call("pg_ctl", "-D", self.data, "-w", "-m", "fast", "stop")

    def bench(self, *arguments: str) -> str:
        return self.call("pgbench", "-h", self.data, "-p", self.port, *arguments, "postgres")


def run_pgbench(bench: Bench) -> Iterator[Row]:
    duration = "3" if bench.quick else "20"
    with (
        Volume(bench.work, "source", 4 * data.GIB, 50_000) as left,
        Volume(bench.work, "target", 4 * data.GIB, 50_000) as right,
    ):
        source, target = left.path / "data", right.path / "replica"
        source.mkdir()
        os.chmod(bench.work, 0o755)
        cluster = Cluster(source)
        with cluster.running():
            cluster.bench("-i", "-q", "-s", "2" if bench.quick else "20")
            for _ in range(bench.rounds or (1 if bench.quick else 3)):
                if not bench.peers or "no capture" in bench.peers:
                    yield Row("pgbench", "no capture", True, measured(cluster, duration))
                if not bench.peers or LIVELIFT.name in bench.peers:
                    right.renew()
                    target.mkdir()
                    with CpuGroup("livelift-benchmark") as group, live_pair(group, bench.work, source, target) as pair:
                        pair.start_source()
                        pair.wait_following(300)
                        yield Row("pgbench", LIVELIFT.name, True, measured(cluster, duration))


def measured(cluster: Cluster, duration: str) -> dict[str, float]:
    cluster.call("psql", "-h", cluster.data, "-p", cluster.port, "-q", "-c", "checkpoint", "-d", "postgres")
    time.sleep(1)
    output = cluster.bench("-c", "4", "-j", "2", "-T", duration)
    found = {key: re.search(pattern, output) for key, pattern in PATTERNS.items()}
    return {key: float(match[1]) for key, match in found.items() if match}


PATTERNS = {"transactions/s": r"tps = ([\d.]+)", "latency ms": r"latency average = ([\d.]+)"}
