"""livelift takeover"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

from livelift.checks.findings import Findings
from livelift.cli.check import read_facts
from livelift.cli.common import add_verb, print_json
from livelift.errors import UnfinishedError
from livelift.facts.collect import collect
from livelift.facts.host import Host
from livelift.model.facts import ServerFacts
from livelift.takeover.confirm import expected
from livelift.takeover.server import Options, Standing, TakeOver

TEXT = """The staged system becomes the one that boots, and back: by one boot into a take-over stage, which swaps both.

A migration does this by itself; by hand: install and arm in the old system, reboot, and commit or back in the new one.
The new system confirms by itself; if it does not, the machine comes back with the old one. Needs root."""

LOOK_SECONDS = 3.0
"""Between two looks of confirm --wait."""


def register(verbs: Any) -> None:
    parser: argparse.ArgumentParser = verbs.add_parser(
        "takeover",
        help="the staged system becomes the one that boots, and back",
        description=TEXT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    below = parser.add_subparsers(dest="act", metavar="ACT", required=True)
    _install(below)
    for name, summary, text, run in (
        ("arm", "the next boot takes over", "The next boot, and only that, takes over.", arm),
        ("disarm", "the next boot does not take over", "The next boot starts the old system again.", disarm),
        ("back", "the next boot leads back", "In the new system: the next boot leads back to the old one.", back),
        ("uninstall", "take it off the old system", "Nothing but the staged tree is left.", uninstall),
    ):
        _dry(add_verb(below, name, summary, text, run))
    add_verb(below, "status", "which system stands, and why", "Which system stands, how far it is, and why.", status)
    confirming = add_verb(
        below,
        "confirm",
        "the new system is well",
        "In the new system, done by its unit: look at addresses, route and services, and tell that it is well.",
        confirm,
    )
    confirming.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="look again for so long")
    committing = add_verb(
        below,
        "commit",
        "the new system is final",
        "In the new system: boots are no longer counted, the boot loader is renewed, there is no way back.",
        commit,
    )
    committing.add_argument("--ignore", metavar="ID", action="append", default=[], help="a finding that does not count")
    committing.add_argument("--free", action="store_true", help="delete the old system's tree")
    _dry(committing)


def _dry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="say what stands, change nothing")


def _install(below: Any) -> None:
    parser = add_verb(
        below,
        "install",
        "put it onto the old system and the staged one",
        "Build the image of the stage, put it and the switch into both boot directories. Nothing leads to it yet.\n"
        "What the new system must show before it counts as well: the addresses, and the services that run here now.",
        install,
    )
    parser.add_argument(
        "--mount",
        action="append",
        metavar="DIR",
        help="a file system that takes part (default: / and what holds /boot)",
    )
    parser.add_argument("--staged", default="", metavar="DIR", help="root of a view of the staged system")
    parser.add_argument("--facts", metavar="FILE", help="facts of this machine (default: taken now)")
    parser.add_argument("--seconds", type=int, default=600, help="time to confirm in, then back (default 600)")
    parser.add_argument("--no-hardware", action="store_true", help="leave /dev/watchdog alone")
    parser.add_argument("--service", action="append", metavar="UNIT", help="must run (default: what runs here now)")
    parser.add_argument("--address", action="append", default=[], metavar="IP", help="must be up (default: any)")
    parser.add_argument("--ignore", metavar="ID", action="append", default=[], help="a finding that does not count")
    _dry(parser)


def facts_of(options: argparse.Namespace) -> ServerFacts:
    if options.facts:
        return read_facts(options.facts)
    host = Host()
    try:
        return collect(host)
    finally:
        host.close()


def install(options: argparse.Namespace) -> int:
    facts = facts_of(options)
    host = Host()
    try:
        running, failed = expected(host.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "--no-pager"))
    finally:
        host.close()
    holder = facts.holder(facts.boot_loader.config) if facts.boot_loader.config else None
    mounts = options.mount or sorted({"/", *([holder.mountpoint] if holder else [])})
    given = Options(
        staged=options.staged,
        seconds=options.seconds,
        hardware=not options.no_hardware,
        services=tuple(options.service) if options.service is not None else running,
        failed=failed,
        addresses=tuple(options.address),
    )
    found = Findings(TakeOver().install(facts, mounts, given, options.dry_run), options.ignore)
    print_json(found.to_dict()) if options.json else print(found.to_text())
    return found.exit_code


def _act(options: argparse.Namespace, action: Callable[[TakeOver], object]) -> int:
    takeover = TakeOver()
    if not options.dry_run:
        action(takeover)
    return _show(options, takeover.standing())


def arm(options: argparse.Namespace) -> int:
    return _act(options, TakeOver.arm)


def disarm(options: argparse.Namespace) -> int:
    return _act(options, TakeOver.disarm)


def back(options: argparse.Namespace) -> int:
    return _act(options, TakeOver.back)


def uninstall(options: argparse.Namespace) -> int:
    return _act(options, TakeOver.uninstall)


def status(options: argparse.Namespace) -> int:
    return _show(options, TakeOver().standing())


def confirm(options: argparse.Namespace) -> int:
    """Exit code 4, with what is missing, if it is not well in time."""
    takeover = TakeOver()
    deadline = time.monotonic() + options.wait
    said: list[str] = []
    while missing := takeover.confirm():
        if missing != said:
            print("\n".join(missing), file=sys.stderr, flush=True)
            said = missing
        if time.monotonic() >= deadline:
            raise UnfinishedError("; ".join(missing), remedy="the machine goes back to the old system by itself")
        time.sleep(LOOK_SECONDS)
    return _show(options, takeover.standing())


def commit(options: argparse.Namespace) -> int:
    takeover = TakeOver()
    if options.dry_run:
        return _show(options, takeover.standing())
    found = Findings(takeover.commit(options.free, options.ignore))
    print_json(found.to_dict()) if options.json else print(found.to_text())
    return 0


def _show(options: argparse.Namespace, standing: Standing) -> int:
    if options.json:
        print_json(standing.to_dict())
        return 0
    lines = [
        f"the {standing.system} system stands" + (f", the take-over is {standing.phase}" if standing.phase else "")
    ]
    if standing.at:
        lines.append(f"since {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(standing.at // 10**9))}")
    for name, value in (
        ("why", standing.reason),
        ("attempts", standing.attempts or ""),
        ("armed by", standing.shot),
        ("boots are counted by", standing.counting),
        ("watchdog", standing.watchdog),
        ("not well", standing.failing.replace("\n", "; ")),
    ):
        if value:
            lines.append(f"  {name}: {value}")
    if standing.missed:
        lines.append("  the machine has booted since it was armed, and not into the stage: look at its boot menu")
    print("\n".join(lines))
    return 0
