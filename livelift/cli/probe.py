"""livelift probe"""

from __future__ import annotations

import argparse
import os
from typing import Any

from livelift.checks.findings import Findings
from livelift.cli.check import read_facts
from livelift.cli.common import add_verb, print_json
from livelift.cli.staged import add_staged, ask_staged
from livelift.errors import PreflightError, UsageError
from livelift.facts.collect import collect
from livelift.facts.host import Host
from livelift.takeover.probe import probe

TEXT = """Look into an adapted staged system before it takes over: does /bin/true run under its own loader, is there an
init, are the devices of fstab here, do the boot entries name files that exist and a root that is here, does the
initramfs hold the drivers on the way to the root. Changes nothing. Needs root. Without --root the agent of a server
job tells what it found when it had made the adaptation.

examples:
  livelift probe --job old-to-new
  livelift probe --root /srv/staged"""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "probe", "would the staged system start on this machine", TEXT, run)
    add_staged(parser)
    parser.add_argument("--root", metavar="DIR", help="the staged root, its file systems mounted in it")
    parser.add_argument("--target-facts", metavar="FILE", help="facts of the machine (default: taken now, of this one)")
    parser.add_argument("--ignore", metavar="ID", action="append", default=[], help="go on in spite of this inhibitor")


def run(options: argparse.Namespace) -> int:
    if not options.root:
        answer = ask_staged(options, "probe")
        print_json(answer) if options.json else print(Findings.from_dict(answer).to_text())
        return PreflightError.exit_code if answer["inhibitors"] else 0
    if not os.path.isdir(options.root):
        raise UsageError(f"{options.root} is not a directory", remedy="name the staged root")
    if options.target_facts:
        facts = read_facts(options.target_facts)
    else:
        host = Host()
        try:
            facts = collect(host)
        finally:
            host.close()
    found = Findings(probe(options.root, facts), options.ignore)
    if options.json:
        print_json(found.to_dict())
    else:
        print(found.to_text())
    return found.exit_code
