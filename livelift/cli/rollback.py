"""livelift rollback"""

from __future__ import annotations

import argparse
import os
from typing import Any

from livelift.cli.common import add_job, add_state, add_verb, print_json
from livelift.control.client import ask
from livelift.errors import StateError
from livelift.source.service import NOT_CUT

TEXT = """After a cutover: take the fence down, the source serves again, and its changes are followed again.

What was written on the replica meanwhile is overwritten. Stop the service there first."""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "rollback", "let the source serve again", TEXT, run)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, do nothing")
    add_job(parser)
    add_state(parser, "/var/lib/livelift/source")


def run(options: argparse.Namespace) -> int:
    directory = os.fsencode(os.path.abspath(options.state))
    if options.dry_run:
        state = ask(directory, "status", 30)["state"]
        if state != "cut":
            raise StateError(f"there is nothing to roll back while the job is {state}", remedy=NOT_CUT)
        if options.json:
            print_json({"dry_run": True, "would": ["take the fence down", "go on following"], "state": state})
        else:
            print(f"would take the fence down and go on following (now: {state})")
        return 0
    answer = ask(directory, "rollback", 60)
    print_json(answer) if options.json else print(f"the source serves again; the job is {answer['state']}")
    return 0
