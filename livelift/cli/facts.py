"""livelift facts"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

import msgspec

from livelift.cli.common import add_verb, human
from livelift.errors import UsageError
from livelift.facts.collect import collect
from livelift.facts.host import Host
from livelift.facts.trees import read_tree
from livelift.model.facts import ServerFacts

TEXT = """Collect the facts of this machine: distribution, kernels, firmware, boot loader, disks, file systems,
network, drivers, security, services. Changes nothing. Run it as root on both machines; "livelift check" and
"livelift plan" read the JSON.

example:
  livelift facts --json > source.json"""


def register(verbs: Any) -> None:
    parser = add_verb(verbs, "facts", "what this machine is", TEXT, run)
    parser.add_argument(
        "--files",
        action="store_true",
        help='instead, as JSON: the files that decide something for "livelift plan" (no keys, no passwords)',
    )
    parser.add_argument("--root", metavar="DIR", default="/", help="read the system in this directory, not the running")


def run(options: argparse.Namespace) -> int:
    if not os.path.isdir(options.root):
        raise UsageError(f"{options.root} is not a directory", remedy="--root takes the root of a system's tree")
    host = Host(options.root)
    try:
        if options.files:
            sys.stdout.write(read_tree(host).to_json().decode() + "\n")
            return 0
        facts = collect(host)
    finally:
        host.close()
    if options.json:
        sys.stdout.write(json.dumps(msgspec.to_builtins(facts), indent=1) + "\n")
    else:
        print("\n".join(describe(facts)))
    return 0


def describe(facts: ServerFacts) -> list[str]:
    """One line a concern."""
    loader = facts.boot_loader
    kernels = ", ".join(kernel.version for kernel in facts.kernels)
    lines = [
        f"host         {facts.hostname} ({facts.release.name or 'unknown system'}, {facts.architecture}, glibc"
        f" {facts.glibc or 'unknown'})",
        f"kernels      {kernels or 'none'}; running {facts.running_kernel or 'none'}",
        f"boot         {facts.firmware.kind}, {loader.kind or 'no boot loader found'}{' (BLS)' if loader.bls else ''}",
    ]
    for fs in facts.file_systems:
        stack = " on ".join(f"{d.kind} {d.name}" for d in facts.stack(fs.device)) or fs.source
        lines.append(
            f"file system  {fs.mountpoint}: {fs.fstype}, {human(fs.used)} used, {human(fs.free)} free; {stack}"
        )
    for nic in facts.interfaces:
        if nic.kind != "loopback":
            told = ", ".join(nic.addresses) or "no address"
            lines.append(f"interface    {nic.name} ({nic.kind}, {nic.driver or 'no driver'}, {nic.mac}): {told}")
    lines.append(f"network by   {', '.join(facts.network_stacks) or 'nothing that is known'}")
    lines.append(
        f"root needs   {', '.join(dict.fromkeys(k.module for k in facts.root_links if k.module)) or 'no module'}"
    )
    lines += [f"not read     {text}" for text in facts.unread]
    return lines
