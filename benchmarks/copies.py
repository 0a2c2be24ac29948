"""Initial copies: a cold source tree onto a fresh file system, all peers in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from benchmarks import data
from benchmarks.accounting import CpuGroup
from benchmarks.peers import LIVELIFT, RSYNC_DAEMON, RSYNC_SSH, TAR_ZSTD_SSH, Peer
from benchmarks.report import Row
from benchmarks.volumes import Volume
from tests.oracle.compare import assert_equal


class Bench(NamedTuple):
    """The settings of one invocation."""

    work: Path
    quick: bool
    rounds: int
    peers: frozenset[str]  # names; empty: all
    verify: bool

    def chosen(self, peers: Sequence[Peer]) -> list[Peer]:
        return [peer for peer in peers if not self.peers or peer.name in self.peers]


class CopyCase(NamedTuple):
    build: Callable[[Path, bool], None]
    peers: tuple[Peer, ...] = (LIVELIFT, RSYNC_SSH, RSYNC_DAEMON, TAR_ZSTD_SSH)
    rounds: int = 3


CASES = {
    "system": CopyCase(data.system_tree),
    "tiny": CopyCase(data.tiny_files),
    "big": CopyCase(data.big_files),
    "sparse": CopyCase(data.sparse_image),
    "memory": CopyCase(data.million_files, (LIVELIFT, RSYNC_SSH), 1),
}


def run_copies(name: str, bench: Bench) -> Iterator[Row]:
    """A B C A B C: one row for each run of each peer."""
    case = CASES[name]
    size, inodes = (3 * data.GIB, 300_000) if bench.quick else (24 * data.GIB, 1_600_000)
    with Volume(bench.work, "source", size, inodes) as left, Volume(bench.work, "target", size, inodes) as right:
        source, target = left.path / "data", right.path / "replica"
        source.mkdir()
        case.build(source, bench.quick)
        expected = data.survey(source)
        for _ in range(bench.rounds or (1 if bench.quick else case.rounds)):
            for peer in bench.chosen(case.peers):
                right.renew()
                target.mkdir()
                values = measure(peer, bench.work, source, target, left.cool)
                arrived = data.survey(target)
                if arrived != expected:
                    raise RuntimeError(f"{name}: {peer.name} brought {arrived} of {expected} (entries, bytes)")
                if bench.verify and peer is LIVELIFT:
                    assert_equal(source, target)
                yield Row(name, peer.name, peer.encrypted, values)


def measure(peer: Peer, work: Path, source: Path, target: Path, before: Callable[[], None]) -> dict[str, float]:
    """One copy: wall time, CPU of everything inside the group, the sum of the processes' peak memory."""
    with ExitStack() as stack:
        group = stack.enter_context(CpuGroup("livelift-benchmark"))
        before()
        copy = stack.enter_context(peer.open(group, work, source, target))
        group.forget_memory()
        cpu, started = group.cpu(), time.monotonic()
        copy()
        wall = time.monotonic() - started
        return {"wall s": wall, "CPU s": group.cpu() - cpu, "peak RSS MiB": group.peak_rss() / data.MIB}
