"""One block of 8 KiB changes in a file of 1 GiB: how long until the other side has it, and what it costs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks import data
from benchmarks.accounting import CpuGroup
from benchmarks.copies import Bench
from benchmarks.peers import LIVELIFT, RSYNC_INPLACE, RSYNC_SSH, Peer, live_pair
from benchmarks.report import Row
from benchmarks.volumes import Volume

BLOCK = 8192
WINDOW = 2.0
"""Seconds over which Livelift's CPU is counted: it runs all the time, so what it costs while idle is in it."""


def run_delta(bench: Bench) -> Iterator[Row]:
    """The base copy is not measured. rsync is started after the change and is done when it ends; Livelift runs already
    and is done when an observer reads the new block from the replica."""
    size = (256 * data.MIB) if bench.quick else 3 * data.GIB
    with Volume(bench.work, "source", size, 10_000) as left, Volume(bench.work, "target", size, 10_000) as right:
        source, target = left.path / "data", right.path / "replica"
        source.mkdir()
        data.one_file(source, bench.quick)
        for _ in range(bench.rounds or (1 if bench.quick else 3)):
            for peer in bench.chosen((LIVELIFT, RSYNC_SSH, RSYNC_INPLACE)):
                right.renew()
                target.mkdir()
                measured = (
                    following(bench.work, source, target)
                    if peer is LIVELIFT
                    else again(peer, bench.work, source, target)
                )
                yield Row("delta", peer.name, peer.encrypted, measured)


def again(peer: Peer, work: Path, source: Path, target: Path) -> dict[str, float]:
    with ExitStack() as stack:
        group = stack.enter_context(CpuGroup("livelift-benchmark"))
        copy = stack.enter_context(peer.open(group, work, source, target))
        copy()
        offset, block = change(source)
        cpu, started = group.cpu(), time.monotonic()
        copy()
        wall = time.monotonic() - started
        if read(target, offset) != block:
            raise RuntimeError(f"delta: {peer.name} did not bring the block")
        return {"wall s": wall, "CPU s": group.cpu() - cpu}


def following(work: Path, source: Path, target: Path) -> dict[str, float]:
    with ExitStack() as stack:
        group = stack.enter_context(CpuGroup("livelift-benchmark"))
        pair = stack.enter_context(live_pair(group, work, source, target))
        pair.start_source()
        pair.wait_following(600)
        time.sleep(1)
        cpu, started = group.cpu(), time.monotonic()
        offset, block = change(source)
        while read(target, offset) != block:
            if time.monotonic() - started > 60:
                raise RuntimeError("delta: the block did not arrive in 60 s")
            time.sleep(0.001)
        wall = time.monotonic() - started
        time.sleep(max(0.0, WINDOW - wall))
        return {"wall s": wall, "CPU s": group.cpu() - cpu}


def change(source: Path) -> tuple[int, bytes]:
    """Other bytes at a random place, aligned to nothing in particular."""
    path, block = source / "database", os.urandom(BLOCK)
    offset = int.from_bytes(os.urandom(5), "big") % (path.stat().st_size - BLOCK)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(block)
    return offset, block


def read(target: Path, offset: int) -> bytes:
    with (target / "database").open("rb") as file:
        file.seek(offset)
        return file.read(BLOCK)
