"""livelift verify"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from livelift.cli.common import add_job, add_state, add_verb, print_json
from livelift.control.client import ask

TEXT = """Compare the source's trees with the replica: every path, type, mode, owner, time,
xattr, ACL, flag, hard link, content.

While the job is following, changes on their way are given time to arrive: only what stays different counts. After a
cutover both trees stand still and are compared once. --report FILE keeps a report signed with the agent's key."""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "verify", "compare source and replica", TEXT, run)
    parser.add_argument("--report", metavar="FILE", help="write the signed report there")
    parser.add_argument(
        "--sample",
        type=float,
        default=1.0,
        metavar="FRACTION",
        help="read the content of this share of the files (metadata of all); for huge trees",
    )
    parser.add_argument("--timeout", type=float, default=3600, metavar="SECONDS")
    add_job(parser)
    add_state(parser, "/var/lib/livelift/source")


def run(options: argparse.Namespace) -> int:
    answer = ask(
        os.fsencode(os.path.abspath(options.state)),
        "verify",
        options.timeout + 60,
        sample=options.sample,
        report=bool(options.report),
        timeout=options.timeout,
    )
    if options.report:
        Path(options.report).write_text(answer.pop("report"))
    if options.json:
        answer.pop("text", None)
        print_json(answer)
    else:
        if options.report:
            print(answer["text"])
            print(f"signed report: {options.report}")
        print(
            f"{answer['differences']} differences"
            f" ({answer['source']['objects']} objects, {answer['seconds']} s, {answer['notes']} notes)"
        )
        for line in answer["listing"]:
            print(f"  {line}")
    return 5 if answer["differences"] else 0
