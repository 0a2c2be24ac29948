"""livelift probe-service"""

from __future__ import annotations

import argparse
from typing import Any

from livelift.cli.common import add_verb, print_json
from livelift.cutover.client import PACE, Watch

TEXT = """Ask a service again and again and tell what a client saw: requests, failures, the longest time without an
answer. Run it from where the clients are. "livelift cutover --probe" does the same for as long as the cutover takes.

examples:
  livelift probe-service http://www.example.com/health
  livelift probe-service tcp:db.example.com:5432 --seconds 60 --json"""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "probe-service", "what a client sees of a service meanwhile", TEXT, run)
    parser.add_argument("targets", nargs="+", metavar="URL|tcp:HOST:PORT", help="what to ask")
    parser.add_argument("--seconds", type=float, metavar="N", help="for so long (default: until interrupted)")
    parser.add_argument(
        "--pace", type=float, default=PACE, metavar="SECONDS", help="between two requests (default 0.1)"
    )


def run(options: argparse.Namespace) -> int:
    with Watch(options.targets, options.pace) as watch:
        try:
            watch.wait(options.seconds)
        except KeyboardInterrupt:
            pass  # this is how it is ended
    show(watch, options.json)
    return 0


def show(watch: Watch, as_json: bool) -> None:
    for report in watch.reports():
        print_json({"event": "continuity", **report.to_dict()}) if as_json else print(report.text())
