"""livelift remove"""

from __future__ import annotations

import argparse
import os
import shutil
from contextlib import suppress
from typing import Any

from livelift.cli.common import add_job, add_state, add_verb, print_json
from livelift.control.client import ask
from livelift.control.lock import sole
from livelift.cutover import block
from livelift.errors import StateError, UnreachableError, UsageError
from livelift.source.config import load
from livelift.target.removal import Removal, lines_of, stop_unit

TEXT = """Stop the agent of a state directory and delete everything of Livelift's there: spool, index, certificates.

The migrated data are never touched, neither the source's nor the replica. Of a server job the staged system goes too
(after a commit: what is kept of the target's old one), with the agent and its unit. A job that is fenced (after a
cutover) is refused unless --keep-fence says that the source is to stay frozen; after a commit it does without that
word. A whole server that stays fenced keeps one thing of Livelift's: the boot target in which it does not serve after a
reboot."""

FENCED = ("cut", "handed", "served")
STAYS = f"""
this machine stays fenced: after a reboot it starts nothing but network and ssh ({block.TARGET}).
To use it for something else: systemctl set-default multi-user.target"""
FORGET = "LIVELIFT_FORGET"
"""As `livelift.bootstrap.front` has it, which cannot be loaded on Windows: what was unpacked goes behind this verb."""
MARKS = ("source.json", "job.json")
STOPPING = 60.0
"""Seconds that an agent has to end: its threads finish what they hold, the log is flushed."""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "remove", "stop the agent and delete its state", TEXT, run)
    parser.add_argument("--dry-run", action="store_true", help="say what would be deleted, do nothing")
    parser.add_argument("--keep-fence", action="store_true", help="after a cutover: leave the source frozen")
    add_job(parser)
    add_state(parser, "/var/lib/livelift/source")


def run(options: argparse.Namespace) -> int:
    path = os.path.abspath(options.state)
    directory = os.fsencode(path)
    if not any(os.path.exists(os.path.join(path, mark)) for mark in MARKS):
        raise UsageError(f"{path} is not a state directory of Livelift", remedy="name the agent's --state directory")
    lines = lines_of(path)
    server = Removal(path, lines) if lines else None
    entries = sorted(os.listdir(path))
    if server is not None:
        server.check()
        entries += server.places()
    if options.dry_run:
        print_json({"would_delete": entries}) if options.json else print(f"would delete {path}: {', '.join(entries)}")
        return 0
    try:
        status = ask(directory, "status", 30)
        if status.get("state") in FENCED and not options.keep_fence:
            raise StateError(
                "the source is fenced after a cutover",
                remedy="livelift rollback first, or say --keep-fence if the service has moved for good",
            )
        if status.get("role") == "target" and server is None:
            # Its directory of ours comes out of the replica, also after a cut that was rolled back; where one stands
            # this does nothing.
            ask(directory, "finish", 60)
        ask(directory, "stop", 30)
    except UnreachableError:
        pass  # not running: only its files are left
    if server is not None:
        stop_unit()
    with sole(directory, STOPPING):
        blocked = _retire(path)
        if server is not None:
            server.clear()
            server.finish()
        else:
            shutil.rmtree(path)
            if os.path.basename(above := os.path.dirname(path)) == "livelift":  # ours, when nothing else is in it
                with suppress(OSError):
                    os.rmdir(above)
    os.environ[FORGET] = "1"
    if options.json:
        print_json({"removed": path, "stays_fenced": blocked})
    else:
        print(f"removed {path}{STAYS if blocked else ''}")
    return 0


def _retire(path: str) -> bool:
    """Whether this machine has handed over as a whole, and so stays fenced."""
    if not os.path.exists(os.path.join(path, "source.json")) or not block.is_up():
        return False
    if not load(os.fsencode(path)).server:
        return False
    block.retire()
    return True
