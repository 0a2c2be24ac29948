"""livelift takeover-windows"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec

from livelift.cli.common import add_verb, print_json
from livelift.errors import UsageError
from livelift.takeover.windows import WindowsFacts, plan_takeover
from livelift.takeover.windows_text import render, swap_script

TEXT = """Plan how a Windows target becomes the source: every command with its reason and its way back.

FACTS is a JSON file: volume, staged, present, hives, winre, bitlocker, uefi, drivers, in_use (docs/how-to/windows.md).
The plan is printed and never carried out: its commands are for the operator, on the target, as an administrator.

example:
  livelift takeover-windows facts.json --dry-run --script swap.cmd"""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "takeover-windows", "plan the take-over of a Windows target", TEXT, run)
    parser.add_argument("facts", metavar="FACTS", nargs="?", help="what is known of the target (JSON)")
    parser.add_argument("--way", choices=("auto", "winre", "registry"), default="auto", help="default %(default)s")
    parser.add_argument("--dry-run", action="store_true", help="print the plan; there is no other way to run this yet")
    parser.add_argument("--script", metavar="FILE", help="also write the batch file of the recovery image")
    parser.add_argument(
        "--replace-hive",
        nargs=3,
        metavar=("KEY", "NEW", "OLD"),
        help="on Windows: from the next boot on the hive KEY is the file NEW, today's is kept as OLD (RegReplaceKey)",
    )


def run(options: argparse.Namespace) -> int:
    if options.replace_hive:
        from livelift.platform.windows.hives import replace_at_boot
        from livelift.platform.windows.privileges import enable

        enable("SeRestorePrivilege", "SeBackupPrivilege")
        replace_at_boot(*options.replace_hive)
        return 0
    if not options.facts or not options.dry_run:
        raise UsageError(
            "the take-over of Windows is planned, not carried out",
            remedy="give FACTS and --dry-run, review the plan, then run its commands on the target",
        )
    try:
        facts = msgspec.json.decode(Path(options.facts).read_bytes(), type=WindowsFacts)
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(f"{options.facts}: {error}", remedy="docs/how-to/windows.md has an example") from error
    plan = plan_takeover(facts, options.way)
    if options.script:
        if not plan.moves:
            raise UsageError(f"the way {plan.way} has no script", remedy="leave --script out, or use --way winre")
        Path(options.script).write_bytes(swap_script(plan).encode("utf-8"))
    print_json(msgspec.to_builtins(plan)) if options.json else print(render(plan), end="")
    return 0
