"""The command line: one file a verb."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from livelift import __version__
from livelift.cli.common import EXIT_CODES, report_error
from livelift.errors import LiveliftError

VERBS = {
    "migrate": "migrate",
    "target": "target",
    "source": "source",
    "status": "status",
    "verify": "verify",
    "cut": "cut",
    "cutover": "cutover",
    "commit": "commit",
    "probe-service": "probe_service",
    "rollback": "rollback",
    "remove": "remove",
    "log": "logs",
    "facts": "facts",
    "check": "check",
    "plan": "plan",
    "adapt": "adapt",
    "probe": "probe",
    "hive": "hive",
    "adapt-windows": "adapt_windows",
    "takeover": "takeover",
    "takeover-windows": "takeover_windows",
    "demo": "demo",
}
"""Verb to module of this room. A verb that is asked for is the only one that is loaded: an agent starts in half the
time."""


def build_parser(only: str = "") -> argparse.ArgumentParser:
    """``only``: a verb, without the others; else all of them."""
    parser = argparse.ArgumentParser(
        prog="livelift",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Move a running server, or a data tree of it, to another machine while it keeps serving.",
    )
    parser.add_argument("--version", action="version", version=f"livelift {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name in [only] if only else VERBS:
        import_module(f"livelift.cli.{VERBS[name]}").register(verbs)
    return parser


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    options = build_parser(arguments[0] if arguments and arguments[0] in VERBS else "").parse_args(arguments)
    try:
        if getattr(options, "job_here", None):
            options.job = options.job or options.job_here
        if options.verb != "migrate" and getattr(options, "job", None):
            return int(import_module("livelift.cli.over_ssh").forward(options, arguments))
        return int(options.run(options))
    except LiveliftError as error:
        return report_error(error, getattr(options, "json", False))
    except KeyboardInterrupt:
        print("livelift: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
