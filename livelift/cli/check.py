"""livelift check"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec

from livelift.checks.findings import Findings
from livelift.checks.server import check_servers
from livelift.cli.common import add_verb, print_json
from livelift.cli.staged import add_staged, ask_staged
from livelift.errors import PreflightError, UsageError
from livelift.model.facts import FORMAT, ServerFacts

TEXT = """Compare the facts of two machines: can the whole system of the source run on the target? Changes nothing.
An inhibitor ends it with exit code 3; --ignore ID turns one into a warning that stays in the report. For a server job
the target's agent compares what it has from both.

examples:
  livelift check --job old-to-new
  livelift facts --json > source.json                  # on the old machine; likewise on the new one
  livelift check --source-facts source.json --target-facts target.json"""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "check", "can this server move to that machine", TEXT, run)
    add_facts(parser)
    add_staged(parser)
    parser.add_argument("--ignore", metavar="ID", action="append", default=[], help="go on in spite of this inhibitor")


def add_facts(parser: argparse.ArgumentParser) -> None:
    for side in ("source", "target"):
        parser.add_argument(
            f"--{side}-facts", metavar="FILE", help=f'"livelift facts --json" of the {side}'
        )


def by_files(options: argparse.Namespace) -> bool:
    """Whether two facts files are given, or none: then the agent of a server job is asked. UsageError: one alone."""
    if bool(options.source_facts) != bool(options.target_facts):
        raise UsageError("one facts file", remedy="give --source-facts and --target-facts, or --job, or --state")
    return bool(options.source_facts)


def read_facts(path: str) -> ServerFacts:
    """UsageError for a file that is missing, of another format or of a later version."""
    remedy = "make it with: livelift facts --json > FILE"
    try:
        facts = msgspec.json.decode(Path(path).read_bytes(), type=ServerFacts)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", remedy=remedy) from error
    except msgspec.DecodeError as error:
        raise UsageError(f"{path} holds no facts: {error}", remedy=remedy) from error
    if facts.format > FORMAT:
        raise UsageError(f"{path} is of format {facts.format}", remedy="use the same Livelift release everywhere")
    return facts


def run(options: argparse.Namespace) -> int:
    if not by_files(options):
        answer = ask_staged(options, "check")
        print_json(answer) if options.json else print(Findings.from_dict(answer).to_text())
        return PreflightError.exit_code if answer["inhibitors"] else 0
    found = check_servers(read_facts(options.source_facts), read_facts(options.target_facts), options.ignore)
    if options.json:
        print_json(found.to_dict())
    else:
        print(found.to_text())
    return found.exit_code
