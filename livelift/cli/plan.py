"""livelift plan"""

from __future__ import annotations

import argparse
import os
from typing import Any

from livelift.adapt import rules
from livelift.adapt.linux.case import Policy, parse_policy
from livelift.adapt.linux.plan import make_plan
from livelift.adapt.linux.trees import Tree
from livelift.adapt.plan import Plan
from livelift.adapt.render import to_dict, to_text
from livelift.checks.findings import Findings
from livelift.cli.check import add_facts, by_files, read_facts
from livelift.cli.common import add_verb, print_json
from livelift.cli.staged import add_staged, ask_staged, text_of
from livelift.errors import PreflightError, UsageError
from livelift.facts.host import Host
from livelift.facts.trees import read_tree

TEXT = """Plan what has to change in the source's system so that it runs on the target's hardware, and print it as a
diff with the reason of every edit. Changes nothing.

--rules overrides edits (skip, replace); --policy says whose addresses, name, machine-id and host keys are kept.
For a server job the target's agent makes the plan from the replica, and keeps policy and rules for "livelift adapt".

examples:
  livelift plan --job old-to-new --policy network.toml
  livelift plan --source-facts source.json --target-facts target.json --source-root /srv/staged --target-root /"""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "plan", "what has to change for the other hardware", TEXT, run)
    add_inputs(parser)


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """What a plan is made from: files, or what the agent of a server job has."""
    add_facts(parser)
    add_staged(parser)
    parser.add_argument("--source-root", metavar="DIR", help="the source's tree, or a replica of it")
    parser.add_argument("--target-root", metavar="DIR", default="/", help="the target's tree (default /)")
    parser.add_argument("--rules", metavar="FILE", help="TOML: skip and replace edits by their ids")
    parser.add_argument(
        "--policy", metavar="FILE", help="TOML: network, interfaces, hostname, machine_id, ssh_host_keys"
    )
    parser.add_argument("--ignore", metavar="ID", action="append", default=[], help="go on in spite of this inhibitor")


def tree(root: str) -> Tree:
    """UsageError: no directory, or a file in it that could not be read: half of the facts make no plan."""
    if not os.path.isdir(root):
        raise UsageError(f"{root} is not a directory", remedy="name the root of a system's tree")
    host = Host(root)
    try:
        found = read_tree(host)
        if host.unread:
            raise UsageError(f"could not be read below {root}: {'; '.join(host.unread[:5])}", remedy="run it as root")
        return found
    finally:
        host.close()


def plan_of(options: argparse.Namespace) -> Plan:
    """With the operator's rules; nothing is changed. UsageError, as its parts say."""
    if not options.source_root:
        raise UsageError("no --source-root", remedy="name the staged tree")
    policy = parse_policy(text_of(options.policy)) if options.policy else Policy()
    overrides = rules.parse(text_of(options.rules)) if options.rules else None
    plan = make_plan(
        read_facts(options.source_facts),
        read_facts(options.target_facts),
        tree(options.source_root),
        tree(options.target_root),
        policy,
    )
    return rules.override(plan, overrides) if overrides is not None else plan


def run(options: argparse.Namespace) -> int:
    if not by_files(options):
        answer = ask_staged(options, "plan")
        print_json(answer["plan"]) if options.json else print(answer["text"])
        return PreflightError.exit_code if answer["plan"]["inhibitors"] else 0
    plan = plan_of(options)
    if options.json:
        print_json(to_dict(plan))
    else:
        print(to_text(plan))
    return Findings(plan.findings, options.ignore).exit_code
