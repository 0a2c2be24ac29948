"""Does the drain keep up with a disk: writes on their way from the kernel's ring into the log, and into the log of
agents that run.

The first part needs no kernel: records as mode `ebpf` finds them in its ring, taken through its reader and its order,
the follower, the index and the log, until all of it is durable; beside it the same bytes written into a plain file and
synced, the fastest that this disk takes them from one thread. The log has to be written too, so on one disk, with the
writer beside it, half of that is all there is.

In the second fio writes directly (O_DIRECT: the bytes are never in the page cache) at a quarter and half of what the
first part took, and at last as fast as this disk takes it, while two agents follow, with each in-kernel mode that works
here. Source, log and target are all on this disk, and all that is done for them on these processors. ``not told``
counts what found no room in the ring; ``behind s`` is the time from the last write until the target has all of it and
it is durable there (half a second at least).
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import stat
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from benchmarks import data
from benchmarks.capture import NOTHING
from benchmarks.copies import Bench
from benchmarks.peers import LIVELIFT
from benchmarks.report import Row
from benchmarks.volumes import Volume
from livelift.capture.choose import MODES, choose
from livelift.capture.ebpf.order import Order
from livelift.capture.ebpf.records import HEAD, Operation, decode
from livelift.capture.ebpf.stream import BATCH, MOST
from livelift.errors import PreflightError
from livelift.index.tree import TreeIndex
from livelift.merge.brackets import Brackets
from livelift.model.entry import Attributes, object_id
from livelift.model.record import Kind, Make
from livelift.ports import Event, WatchedVolume
from livelift.source.dirty import Dirty
from livelift.source.follower import Follower
from livelift.source.gaps import Gaps
from livelift.source.journal import Journal
from livelift.source.live import Live
from tests.oracle.pair import LivePair

SIZES: Final = {"64 KiB": 64 * data.KIB, "4 KiB": 4 * data.KIB}
SIZE: Final = SIZES["64 KiB"]
PLAIN: Final = "plain file"
READER: Final = "reader alone"
INODE: Final = 12
STOCK: Final = 64 * data.MIB
PARTS: Final = (0.25, 0.5, 0.0)
"""Of what the log takes by itself; 0: as fast as the disk goes."""
UNASKED: Final = 400
"""MiB/s that stand for what the log takes where --peer has left it out."""


def run_drain(bench: Bench) -> Iterator[Row]:
    rows = list(_from_memory(bench))
    yield from rows
    alone = [row.values["MiB/s"] for row in rows if row.peer == LIVELIFT.name and "64" in row.case] or [UNASKED]
    yield from _beside_a_disk(bench, [round(part * statistics.median(alone)) for part in PARTS])


# -- without a kernel --------------------------------------------------------------------------------------------------


def _from_memory(bench: Bench) -> Iterator[Row]:
    stock = random.Random(3).randbytes(STOCK)
    runs = {PLAIN: _plain, READER: _reader, LIVELIFT.name: _logged}
    for _ in range(bench.rounds or (1 if bench.quick else 5)):
        for (label, size), (name, run) in itertools.product(SIZES.items(), runs.items()):
            if bench.peers and name not in bench.peers:
                continue
            pieces = _Pieces(stock, size, (64 if bench.quick else 512 if size == SIZE else 128) * data.MIB // size)
            taken = run(bench.work, pieces)
            values = {"MiB/s": pieces.count * size / data.MIB / taken, "records/s": pieces.count / taken}
            yield Row(f"drain log {label}", name, True, values)


@dataclass(frozen=True)
class _Pieces:
    """What is written: ``count`` pieces of ``size`` bytes."""

    stock: bytes
    size: int
    count: int

    def __iter__(self) -> Iterator[memoryview]:
        view = memoryview(self.stock)
        for number in range(self.count):
            at = number * self.size % STOCK
            yield view[at : at + self.size]


def _plain(work: Path, pieces: _Pieces) -> float:
    path = work / "plain"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        began = time.perf_counter()
        for piece in pieces:
            os.write(fd, piece)
        os.fdatasync(fd)
        return time.perf_counter() - began
    finally:
        os.close(fd)
        path.unlink()


def _batches(pieces: _Pieces) -> Iterator[list[bytes]]:
    """As `Ring.take` gives them: records that it has copied out of the ring."""
    batch: list[bytes] = []
    for number, piece in enumerate(pieces):
        head = HEAD.pack(number, INODE, number * pieces.size, pieces.size, 0, Operation.WRITE, 0, 1)
        batch.append(b"".join((head, piece)))
        if len(batch) * pieces.size >= BATCH or len(batch) == MOST:
            yield batch
            batch = []
    if batch:
        yield batch


def _events(order: Order, batch: list[bytes]) -> list[Event]:
    return [out.event for out in order.feed(decode(batch, 0), time.monotonic())]


def _reader(work: Path, pieces: _Pieces) -> float:
    order = Order()
    began = time.perf_counter()
    told = sum(len(_events(order, batch)) for batch in _batches(pieces))
    assert told == pieces.count
    return time.perf_counter() - began


def _logged(work: Path, pieces: _Pieces) -> float:
    directory = os.fsencode(work / "journal")
    os.mkdir(directory)
    journal = Journal(
        os.path.join(directory, b"spool"),
        "drain",
        TreeIndex(os.path.join(directory, b"index.sqlite")),
        4 * pieces.count * pieces.size,
        64 * data.MIB,
        lambda reason: sys.exit(f"drain: the log was given up: {reason}"),
    )
    try:
        brackets: Brackets[Event] = Brackets()
        # Content of a file that the index knows is not looked at in the live tree: there is none.
        follower = Follower(
            journal, cast(Live, None), brackets, Dirty(time.monotonic), Gaps(journal, time.monotonic),
            lambda oid, deep: None, lambda parent, name: True,
        )  # fmt: skip
        follower.told.exact = True
        root, now = object_id(0, 2), time.time_ns()
        journal.put(Kind.MKDIR, Make(root, 0, b"0", Attributes(stat.S_IFDIR | 0o755, 0, 0, 0, now, 0, now, 2)))
        attributes = Attributes(stat.S_IFREG | 0o644, 0, 0, 0, now, 0, now, 1)
        journal.put(Kind.CREATE, Make(object_id(0, INODE), root, b"file", attributes))
        order = Order()
        began, before = time.perf_counter(), journal.spool.last_lsn
        for batch in _batches(pieces):
            follower.process(_events(order, batch))
        journal.commit()
        taken = time.perf_counter() - began
        assert journal.spool.last_lsn - before == pieces.count
        return taken
    finally:
        journal.close()
        shutil.rmtree(directory)


# -- agents beside a disk ----------------------------------------------------------------------------------------------


def _beside_a_disk(bench: Bench, rates: list[int]) -> Iterator[Row]:
    if shutil.which("fio") is None:
        print("drain: no fio (Debian package fio)", file=sys.stderr)
        return
    mib = 64 if bench.quick else 512
    with (
        Volume(bench.work, "source", 2 * data.GIB, 1_000) as left,
        Volume(bench.work, "target", 2 * data.GIB, 1_000) as right,
    ):
        volume = WatchedVolume(0, os.fsencode(left.path), "ext4", os.stat(left.path).st_dev)
        in_kernel = [mode.name for mode in MODES if mode.name.startswith("ebpf")]
        names = [NOTHING, *(name for name in in_kernel if _runs(volume, name))]
        for _ in range(bench.rounds or (1 if bench.quick else 3)):
            for rate, name in itertools.product(rates, names):
                if bench.peers and name not in bench.peers:
                    continue
                left.renew()
                right.renew()
                source, target = left.path / "data", right.path / "replica"
                source.mkdir()
                target.mkdir()
                (source / "file").write_bytes(bytes(mib * data.MIB))
                os.sync()
                case = f"drain disk at {rate} MiB/s" if rate else "drain disk"
                yield Row(case, name, True, _followed(bench.work, source, target, name, mib, rate))


def _runs(volume: WatchedVolume, name: str) -> bool:
    try:
        choose([volume], name)
    except PreflightError as error:
        print(f"drain: without {name}: {error.args[0]}", file=sys.stderr)
        return False
    return True


def _followed(work: Path, source: Path, target: Path, name: str, mib: int, rate: int) -> dict[str, float]:
    if name == NOTHING:
        return {"MiB/s": _fio(source / "file", mib, rate), "not told": 0.0, "behind s": 0.0}
    state = work / "agents"
    try:
        # A second look at the file (`ebpf-syscall`) goes through the log as well, and what has no room there is a gap.
        room = ["--spool-cap", "4G"]
        with LivePair([(source, target)], state, capture=name, source_arguments=room) as pair:
            pair.wait_following(600)
            speed, ended = _fio(source / "file", mib, rate), time.monotonic()
            time.sleep(0.5)  # a status of before the capture has told of it says that nothing is outstanding
            pair.wait_following(600, 0.05)
            behind = time.monotonic() - ended
            pair.cutover(600)
            dropped = sum(map(int, re.findall(r"the ring was full[^0-9]*(\d+) records", pair.gaps())))
            return {"MiB/s": speed, "not told": float(dropped), "behind s": behind}
    finally:
        shutil.rmtree(state, ignore_errors=True)


def _fio(file: Path, mib: int, rate: int) -> float:
    command = [
        "fio", "--name=w", f"--filename={file}", f"--bs={SIZE}", f"--size={mib}M", "--ioengine=libaio", "--iodepth=4",
        "--direct=1", "--rw=write", "--overwrite=1", "--fallocate=none", "--end_fsync=1", "--output-format=json",
        "--refill_buffers", "--randrepeat=1",
    ]  # fmt: skip
    if rate:
        command.append(f"--rate={rate}m")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]["write"]["bw_bytes"] / data.MIB)
