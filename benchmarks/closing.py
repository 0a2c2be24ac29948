"""The comparison behind the fence: two equal trees of which nearly everything has been hashed before.

Both sides in this process, the whole dialogue, no wire. Beside it rsync's dry run, which compares size and mtime of
each file and no content, and the same verification without what is kept of whole directories.
"""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks import data
from benchmarks.copies import Bench
from benchmarks.peers import LIVELIFT
from benchmarks.report import Row
from livelift.source.edge import attributes_at
from livelift.verify.answer import Answerer
from livelift.verify.cache import RACY, DigestCache, Key
from livelift.verify.directories import Whole
from livelift.verify.exchange import Asker, ask_all
from livelift.verify.verifier import TreeVerifier

OBJECT_BY_OBJECT = "livelift, object by object"


class NoDirectories(DigestCache):
    def whole(self, key: Key) -> Whole | None:
        return None


def run_closing(bench: Bench) -> Iterator[Row]:
    source, target = bench.work / "source", bench.work / "target"
    data.many_files(source, 5_000 if bench.quick else 100_000, 1024)
    subprocess.run(["cp", "-a", source, target], check=True)
    time.sleep(RACY / 1e9 + 0.5)
    with ExitStack() as stack:
        peers: dict[str, Callable[[], None]] = {
            LIVELIFT.name: comparison(stack, source, target, DigestCache),
            OBJECT_BY_OBJECT: comparison(stack, source, target, NoDirectories),
            "rsync -n": lambda: dry_run(source, target),
        }
        chosen = {name: run for name, run in peers.items() if not bench.peers or name in bench.peers}
        for run in chosen.values():
            run()
        for _ in range(bench.rounds or (1 if bench.quick else 3)):
            for name, run in chosen.items():
                wall, cpu = time.perf_counter(), spent()
                run()
                yield Row("closing", name, False, {"wall s": time.perf_counter() - wall, "CPU s": spent() - cpu})


def comparison(stack: ExitStack, source: Path, target: Path, kind: type[DigestCache]) -> Callable[[], None]:
    sides = []
    for root in (source, target):
        cache = kind()
        stack.callback(cache.close)
        sides.append(stack.enter_context(TreeVerifier([(0, os.fsencode(root))], attributes_at, cache)))
    ours, theirs = sides

    def compare() -> None:
        ours.begin()
        asker = Asker(ours.everything(), ours.links, ours.maps)
        found = ask_all(asker, Answerer(theirs).answer)
        if found:
            raise RuntimeError(f"closing: the trees differ: {found[:3]}")

    return compare


def dry_run(source: Path, target: Path) -> None:
    said = subprocess.run(
        ["rsync", "-aHAXn", "--delete", "--itemize-changes", f"{source}/", f"{target}/"],
        capture_output=True,
        check=True,
    ).stdout
    if said:
        raise RuntimeError(f"closing: rsync sees differences: {said[:300]!r}")


def spent() -> float:
    """CPU seconds of this process and of the children that have ended."""
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)
