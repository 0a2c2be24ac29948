"""The ordering invariant, a million positions at a time: recorded in a virtual machine, judged on this one.

    python -m tests.capture.ebpf.ordering bookworm [trixie bullseye] [--fstype ext4 xfs btrfs] [--positions 1000000]

One writer sets A = n, another sets B = n as soon as it sees that. So at every moment B <= A <= B + 1, and every
position of a log that is a cut says so too. In an emulated machine decoding takes longer than all the rest: there the
ring's records are written to a file as they come, here the agent's code puts them in order. Exit status 1: violations.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from livelift.capture.ebpf.inorder import _choose
from livelift.capture.ebpf.order import Order
from livelift.capture.ebpf.records import HEAD, Event, Operation, decode
from livelift.capture.ebpf.stream import BATCH, LOST, MOST, RING, Stream
from livelift.ports import Exact
from tests.capture.conftest import volume_at
from tests.loopfs import loop_filesystem

ROOT = Path(__file__).resolve().parents[3]
LENGTH = struct.Struct("<I")

FIRST = """
import mmap, os, struct, sys
a, b = os.open(sys.argv[1], os.O_RDWR), os.open(sys.argv[2], os.O_RDWR)
pack, unpack = struct.Struct("<Q").pack, struct.Struct("<Q").unpack
theirs = mmap.mmap(b, 8, mmap.MAP_SHARED, mmap.PROT_READ)  # seen at once, without a lock
for n in range(1, int(sys.argv[3]) + 1):
    os.pwrite(a, pack(n), 0)
    while unpack(theirs[:8])[0] != n:
        pass
"""
SECOND = FIRST.replace("mmap.mmap(b,", "mmap.mmap(a,").replace(
    """    os.pwrite(a, pack(n), 0)
    while unpack(theirs[:8])[0] != n:
        pass
""",
    """    while unpack(theirs[:8])[0] != n:
        pass
    os.pwrite(b, pack(n), 0)
""",
)

IN_C = """
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
int main(int count, char **words)
{
    int first = words[1][0] == '0', a = open(words[2], O_RDWR), b = open(words[3], O_RDWR);
    uint64_t rounds = strtoull(words[4], 0, 10);
    volatile uint64_t *theirs = mmap(0, 8, PROT_READ, MAP_SHARED, first ? b : a, 0);
    for (uint64_t n = 1; n <= rounds; n++) {
        if (first && pwrite(a, &n, 8, 0) != 8)
            return 1;
        while (*theirs != n)
            ;
        if (!first && pwrite(b, &n, 8, 0) != 8)
            return 1;
    }
    return 0;
}
"""
"""The same for a million rounds."""


def writers(paths: list[Path], rounds: int) -> list[subprocess.Popen[bytes]]:
    return [subprocess.Popen([sys.executable, "-c", code, *paths, str(rounds)]) for code in (FIRST, SECOND)]


def quick_writers(paths: list[Path], rounds: int, scratch: Path) -> list[subprocess.Popen[bytes]]:
    """Compiled, where there is a compiler."""
    if shutil.which("cc") is None:
        return writers(paths, rounds)
    program = scratch / "writer"
    subprocess.run(["cc", "-O1", "-x", "c", "-", "-o", program], input=IN_C.encode(), check=True)
    return [subprocess.Popen([program, number, *paths, str(rounds)]) for number in "01"]


def skews(events: Iterable[Event], oids: list[int]) -> Iterator[int]:
    """How far A is ahead of B at each position."""
    values = [0, 0]
    for event in events:
        if isinstance(event, Exact) and event.record.body.oid in oids:
            values[oids.index(event.record.body.oid)] = struct.unpack("<Q", event.record.payload)[0]
            yield values[0] - values[1]


def record(fstype: str, rounds: int, out: Path) -> None:
    """Every record of the ring, and at the end what was lost."""
    with (
        loop_filesystem(fstype, 400) as path,
        tempfile.TemporaryDirectory() as scratch,
        open(out, "wb", buffering=1 << 20) as file,
    ):
        paths = [path / "a", path / "b"]
        for each in paths:
            each.write_bytes(bytes(8))
        volume = volume_at(path, fstype)
        stream = Stream("fexit", [volume], (), RING, LOST, _choose)
        oids = [volume.index << 56 | os.stat(each).st_ino for each in paths]
        children = quick_writers(paths, rounds, Path(scratch))
        try:
            while any(child.poll() is None for child in children):
                assert not any(child.poll() for child in children), "a writer failed"
                time.sleep(0.2)
                _put(stream, file)
            _put(stream, file)
            assert not any(child.wait() for child in children)
        finally:
            for child in children:
                child.kill()
                child.wait()
            lost = [each.oid for each in stream.lost()]
            stream.close()
    told = {"kernel": os.uname().release, "fstype": fstype, "oids": oids, "lost": lost, "rounds": rounds}
    out.with_suffix(".json").write_text(json.dumps(told))


def _put(stream: Stream, file: BinaryIO) -> None:
    while samples := stream._ring.take(BATCH, MOST):
        for sample in samples:
            _, _, _, length, _, number, _, _ = HEAD.unpack_from(sample)
            if number == Operation.WRITE:
                sample = sample[: HEAD.size + length]  # the rest of its size class is nothing
            file.write(LENGTH.pack(len(sample)) + sample)


def _samples(file: io.BufferedReader) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    while head := file.read(LENGTH.size):
        batch.append(file.read(*LENGTH.unpack(head)))
        if len(batch) == MOST:
            yield batch
            batch = []
    yield batch


def judge(out: Path) -> int:
    """Prints the figures; the number of violations. AssertionError: something is missing."""
    told = json.loads(out.with_suffix(".json").read_text())
    order = Order()

    def events(file: io.BufferedReader) -> Iterator[Event]:
        for number, batch in enumerate(_samples(file)):
            yield from (each.event for each in order.feed(decode(batch, 0), number / 100))

    with open(out, "rb") as file:
        found = list(skews(events(file), told["oids"]))
    assert not told["lost"], f"lost: {told['lost']}"
    assert len(found) == 2 * told["rounds"], f"{len(found)} positions, not {2 * told['rounds']}"
    wrong = sum(skew not in (0, 1) for skew in found)
    print(f"Linux {told['kernel']}, {told['fstype']}: {len(found)} positions, {wrong} violations", flush=True)
    return wrong


def under(suite: str, fstype: str, rounds: int) -> int:
    from tests import kernels

    with tempfile.TemporaryDirectory() as share:
        out = Path(share) / "records"
        command = ["env", "PYTHONDONTWRITEBYTECODE=1", f"PYTHONPATH={ROOT}", sys.executable]
        command += ["-m", "tests.capture.ebpf.ordering", "record", "--fstype", fstype, "--positions", str(2 * rounds)]
        said: list[str] = []
        timeout = 300 + rounds / 100
        status = kernels.under(suite, [*command, "--out", out], Path(share), timeout=timeout, line=said.append)
        assert status == 0, "\n".join(said[-40:])
        return judge(out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="+", help="Debian releases, or `record`: here, into --out")
    parser.add_argument("--fstype", nargs="+", default=["ext4", "xfs", "btrfs"])
    parser.add_argument("--positions", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.chdir(ROOT)
    if options.suites == ["record"]:
        record(options.fstype[0], options.positions // 2, options.out)
        return 0
    wrong = 0
    for suite in options.suites:
        for fstype in options.fstype:
            wrong += under(suite, fstype, options.positions // 2)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
