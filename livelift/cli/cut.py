"""livelift cut"""

from __future__ import annotations

import argparse
import os
from typing import Any

from livelift.cli.common import add_job, add_state, add_verb, human, print_json
from livelift.control.client import call

TEXT = """Mark a position of the log at which the replica is exactly the source at one instant, while
the workload goes on; with --to make a copy of the replica at that position.

The copy is what a snapshot of the source's disks would be: programs that survive a power cut start from it. It holds
everything that was acknowledged before the command. On XFS and btrfs its files share the replica's blocks (no room, a
tenth of a millisecond a file); elsewhere they are copied, and the replay waits meanwhile. Following goes on.

Only in capture mode ebpf; in any other mode no position is a cut without the fence ("livelift cutover").

examples:
  livelift cut --to /srv/copies/monday      # /srv/pg of the source is /srv/copies/monday/srv/pg on the target
  livelift cut                              # the position alone: its LSN and time"""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "cut", "a point-in-time copy while the workload runs", TEXT, run)
    parser.add_argument("--to", metavar="DIR", default="", help="on the target: a directory that is not there yet")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="give up after this long")
    add_job(parser)
    add_state(parser, "/var/lib/livelift/source")


def run(options: argparse.Namespace) -> int:
    answer: dict[str, Any] = {}
    for answer in call(
        os.fsencode(os.path.abspath(options.state)),
        "cut",
        options.timeout + 60,
        to=options.to,
        timeout=options.timeout,
    ):
        if options.json:
            print_json(answer)
        elif answer.get("step") == "wait":
            print(f"  waiting {answer['seconds']} s for {answer['for']}", flush=True)
        elif answer.get("step") == "again":
            print(f"  again: {answer['for']}", flush=True)
    if not options.json:
        print(f"cut at LSN {answer['cut_lsn']}, found after {answer['waited']} s")
        if options.to:
            print(
                f"{answer['to']}: {answer['files']} files in {answer['copy_seconds']} s: {answer['reflinked']} share "
                f"the replica's blocks, {answer['copied']} were copied ({human(answer['bytes_copied'])})"
            )
    return 0
