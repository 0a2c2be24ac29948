"""livelift log"""

from __future__ import annotations

import argparse
import os
from typing import Any

from livelift.cli.common import add_state, add_verb, print_json
from livelift.errors import UsageError
from livelift.log.show import show
from livelift.spool.repair import iterate

TEXT = """Show the change log of a source as JSON lines: LSN, time, kind, object, name, offset, length,
and on request the content.

Only what the target has not acknowledged durably is still there, plus the rest of the oldest segment. Works beside a
running agent."""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "log", "show the change log", TEXT, run)
    parser.add_argument("action", choices=["show"])
    parser.add_argument("--from", dest="start", type=int, default=0, metavar="LSN", help="begin at this LSN")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="stop after so many records")
    parser.add_argument("--content", action="store_true", help="with the bytes, base64")
    add_state(parser, "/var/lib/livelift/source")


def run(options: argparse.Namespace) -> int:
    spool = os.path.join(os.fsencode(os.path.abspath(options.state)), b"spool")
    if not os.path.isdir(spool):
        raise UsageError(f"no log in {options.state}", remedy="name the source agent's --state directory")
    for count, record in enumerate(iterate(spool, options.start)):
        if options.limit and count >= options.limit:
            break
        print_json(show(record, (1 << 20) if options.content else 0))
    return 0
