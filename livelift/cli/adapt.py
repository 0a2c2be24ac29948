"""livelift adapt"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from livelift.adapt.render import to_text
from livelift.checks.findings import Findings
from livelift.cli.check import by_files
from livelift.cli.common import add_verb, print_json
from livelift.cli.plan import add_inputs, plan_of
from livelift.cli.staged import ask_staged
from livelift.edits.editor import Editor

TEXT = """Carry out the plan in a staged copy of the source's system (--source-root): each edit with its inverse
recorded before. Run it again when the source has changed a file that the plan was made from: what was done is taken
back first, so that the plan is made from the source's own files. --undo takes everything back. Needs root. For a
server job the target's agent makes them beside the replica, and installs the take-over, which leads nowhere yet; what
is still right is not made again.

examples:
  livelift adapt --job old-to-new
  livelift adapt --source-facts source.json --target-facts target.json --source-root /srv/staged --dry-run"""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "adapt", "make a staged system fit this hardware, or take that back", TEXT, run)
    add_inputs(parser)
    parser.add_argument("--undo", action="store_true", help="take all edits back")
    parser.add_argument("--dry-run", action="store_true", help="print the plan as a diff, change nothing")
    parser.add_argument(
        "--journal", metavar="DIR", default="/var/lib/livelift/edits", help="where the journal of the edits lies"
    )


def run(options: argparse.Namespace) -> int:
    if not by_files(options):
        return _staged(options)
    if options.dry_run:
        plan = plan_of(options)
        print(to_text(plan))
        return 0
    editor = Editor(options.source_root, options.target_root, options.journal)
    try:
        undone = editor.undo()
        if options.undo:
            _tell(options, undone=undone)
            return 0
        plan = plan_of(options)
        plan.check(options.ignore)
        made = editor.apply(plan, lambda id: None if options.json else print(id, file=sys.stderr))
        _tell(options, edits=made, undone=undone)
        return 0
    finally:
        editor.close()


def _staged(options: argparse.Namespace) -> int:
    if options.dry_run:
        print(ask_staged(options, "plan")["text"])
        return 0
    if options.undo:
        answer = ask_staged(options, "drop")
    else:
        answer = ask_staged(options, "adapt")
        installed = ask_staged(options, "install")
        answer["findings"] += installed["findings"]
        answer["install_seconds"] = installed["seconds"]
        answer["already"] = answer["already"] and installed["already"]
    if options.json:
        print_json(answer)
    elif options.undo:
        print("the adaptation is dropped; the replica was never touched")
    else:
        print(Findings.from_dict(answer).to_text())
        seconds = answer["seconds"] + answer["install_seconds"]
        done = "stand already" if answer["already"] else f"made in {seconds:.1f} s"
        print(f"{answer['edits']} edits and the take-over {done} ({answer['mode']})")
    return 0


def _tell(options: argparse.Namespace, **numbers: int) -> None:
    if options.json:
        print_json(dict(numbers))
    else:
        print(", ".join(f"{number} {name}" for name, number in numbers.items()))
