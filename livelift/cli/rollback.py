"""livelift rollback"""

from __future__ import annotations

import argparse
import os
from typing import Any

from livelift.cli.common import add_job, add_state, add_verb
from livelift.cli.cutover import Progress
from livelift.control.client import call
from livelift.source.moving import FORCE

TEXT = """After a cutover: take the fence down, the source serves again, and its changes are followed again.

Of data: what was written on the replica meanwhile is overwritten. Stop the service there first.
Of a whole server, until the commit: the target is led back to its old system by one reboot, and only when that stands
does the source serve again. What was written on the new system meanwhile is lost.

If the target cannot be reached, nobody but you can know whether the new system runs. Look, switch it off or cut it from
the network, then say so: --force new-system-is-off. Both machines serving at once is what this guards against."""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "rollback", "let the source serve again", TEXT, run)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, do nothing")
    parser.add_argument(
        "--force", choices=(FORCE,), help="I have looked: the new system is off. The source serves without asking"
    )
    parser.add_argument(
        "--timeout", type=float, default=900, metavar="SECONDS", help="wait for the target this long (default 900)"
    )
    add_job(parser)
    add_state(parser, "/var/lib/livelift/source")


def run(options: argparse.Namespace) -> int:
    show, answer = Progress(options.json), {}
    for answer in call(
        os.fsencode(os.path.abspath(options.state)),
        "rollback",
        None,
        dry_run=options.dry_run,
        force=options.force,
        timeout=options.timeout,
    ):
        show.line(answer)
    if not options.json:
        if options.dry_run:
            print(f"would {', then '.join(answer['would'])} (now: {answer['state']})")
        else:
            print(f"the source serves again; the job is {answer['state']}")
    return 0


