"""livelift cutover"""

from __future__ import annotations

import argparse
import os
from typing import Any

from livelift.cli.common import add_job, add_state, add_verb, print_json
from livelift.control.client import call

TEXT = """Fence the workload (freeze its cgroups), drain, verify, cut.

Any failure before the cut takes the fence down at once and changes nothing. After the cut the source stays fenced and
the replica is proven identical to it; "livelift rollback" lets the source serve again."""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "cutover", "fence, drain, verify, cut", TEXT, run)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, do nothing")
    parser.add_argument("--label", default="cutover", help="a name for this cut, kept in the log")
    parser.add_argument(
        "--timeout", type=float, default=600, metavar="SECONDS", help="give up (and unfence) after this long"
    )
    add_job(parser)
    add_state(parser, "/var/lib/livelift/source")


def run(options: argparse.Namespace) -> int:
    answer: dict[str, Any] = {}
    for answer in call(
        os.fsencode(os.path.abspath(options.state)),
        "cutover",
        options.timeout + 60,
        label=options.label,
        timeout=options.timeout,
        dry_run=options.dry_run,
    ):
        if options.json:
            print_json(answer)
        elif answer.get("step"):
            print(f"{answer['step']} ...", flush=True)
    if options.json:
        return 0
    if answer.get("dry_run"):
        print(
            f"would {', '.join(answer['would'])}; fence: {answer['fence']}; open gaps {answer['gaps']}, "
            f"lag {answer['lag']} s, backlog {answer['backlog']} bytes"
        )
    else:
        print(
            f"cut at LSN {answer['cut_lsn']}: {answer['differences']} differences; fenced {answer['fence_seconds']} s "
            f"(drain {answer['drain_seconds']} s, verify {answer['verify_seconds']} s), fence: {answer['fence']}"
        )
    return 0
