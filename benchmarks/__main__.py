"""``python -m benchmarks [--case NAME]... [--quick] [--json FILE]``: run, print the table, write the file."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks import capture, changes, closing, copies, delta, draining, pgbench, registry, report
from benchmarks.accounting import is_root
from benchmarks.copies import Bench
from benchmarks.peers import LIVELIFT
from tests.oracle.pair import why_unavailable

CASES: dict[str, Callable[[Bench], Iterator[report.Row]]] = {
    **{name: partial(copies.run_copies, name) for name in copies.CASES if name != "memory"},
    "delta": delta.run_delta,
    "changes": changes.run_changes,
    "capture": capture.run_capture,
    "drain": draining.run_drain,
    "pgbench": pgbench.run_pgbench,
    "closing": closing.run_closing,
    "registry": registry.run_registry,
    "memory": partial(copies.run_copies, "memory"),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Livelift against its peers, in turn, medians."
    )
    parser.add_argument("--case", action="append", choices=list(CASES), help="repeatable; without it all cases")
    parser.add_argument(
        "--peer", action="append", default=[], help="only this peer (repeatable), by its name in the table"
    )
    parser.add_argument("--rounds", type=int, default=0, help="runs of each peer (3; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="small data: does it work, not how fast is it")
    parser.add_argument("--verify", action="store_true", help="compare Livelift's replica completely after each copy")
    parser.add_argument("--json", type=Path, help="also write all runs and the medians here")
    parser.add_argument(
        "--work", type=Path, default=Path("/var/tmp"), help="where the images live: a real disk, not tmpfs"
    )
    options = parser.parse_args()
    if not is_root():
        parser.error("needs root: loop devices, mounts, cgroups")
    peers = frozenset(options.peer)
    if reason := why_unavailable():
        print(f"without {LIVELIFT.name}: {reason}", file=sys.stderr)
        everybody = {peer.name for case in copies.CASES.values() for peer in case.peers} | {"lsyncd", "no capture"}
        everybody |= {"rsync --inplace over ssh", "hivex", "rsync -n"}
        peers = (peers or frozenset(everybody)) - {LIVELIFT.name}
    rows: list[report.Row] = []
    work = Path(tempfile.mkdtemp(prefix="livelift-benchmark-", dir=options.work))
    try:
        bench = Bench(work, options.quick, options.rounds, peers, options.verify)
        for name in options.case or CASES:
            for row in CASES[name](bench):
                rows.append(row)
                values = ", ".join(f"{key} {value:.3f}" for key, value in row.values.items())
                print(f"{row.case}: {row.peer}: {values}", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(work)
    print(report.table(rows))
    if options.json:
        report.write_json(options.json, rows, options.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
