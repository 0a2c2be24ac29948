"""livelift commit"""

from __future__ import annotations

import argparse
import os
from typing import Any

from livelift.checks.findings import Findings
from livelift.cli.common import add_job, add_state, add_verb
from livelift.cli.cutover import Progress
from livelift.control.client import call

TEXT = """After the cutover of a whole server: the new system is final. There is no way back after this.

The target stops counting its boots and forgets how to go back. The source stays fenced, and does not serve after a
reboot either; "livelift remove --keep-fence" ends the job."""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "commit", "the new system is final", TEXT, run)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, do nothing")
    parser.add_argument("--free", action="store_true", help="also delete the target's old system, which is kept else")
    parser.add_argument(
        "--ignore", metavar="ID", action="append", default=[], help="a finding of the target's that does not count"
    )
    parser.add_argument(
        "--timeout", type=float, default=1800, metavar="SECONDS", help="wait for the target this long (default 1800)"
    )
    add_job(parser)
    add_state(parser, "/var/lib/livelift/source")


def run(options: argparse.Namespace) -> int:
    show, answer = Progress(options.json), {}
    directory = os.fsencode(os.path.abspath(options.state))
    asked = {name: getattr(options, name) for name in ("dry_run", "timeout", "free", "ignore")}
    for answer in call(directory, "commit", None, **asked):
        show.line(answer)
    if not options.json:
        if (told := answer.get("target") or {}).get("findings"):
            print(Findings.from_dict(told).to_text())
        done = f"would {', '.join(answer['would'])}" if options.dry_run else "committed: the new system is final"
        print(f"{done} (the job is {answer['state']})")
    return 0
