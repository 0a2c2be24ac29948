"""The command line: one file a verb."""

from __future__ import annotations

import argparse
import sys

from livelift import __version__
from livelift.cli import check, cutover, demo, facts, hive, logs, remove, rollback, source, status, target, verify
from livelift.cli.common import EXIT_CODES, report_error
from livelift.errors import LiveliftError

VERBS = (target, source, status, verify, cutover, rollback, remove, logs, facts, check, hive, demo)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="livelift",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Move a running server, or a data tree of it, to another machine while it keeps serving.",
    )
    parser.add_argument("--version", action="version", version=f"livelift {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for module in VERBS:
        module.register(verbs)
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except LiveliftError as error:
        return report_error(error, getattr(options, "json", False))
    except KeyboardInterrupt:
        print("livelift: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
