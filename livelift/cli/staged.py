"""What the verbs about a server job's staged system share: they ask the target's agent."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from livelift.cli.common import add_job, add_state
from livelift.control.client import ask
from livelift.errors import UsageError

STATE = "/.livelift/target"
PATIENCE = 2 * 3600.0
"""Seconds: the initramfs of several kernels, on a slow machine."""


def add_staged(parser: argparse.ArgumentParser) -> None:
    """--job, --state; and what the controller passes on (`livelift.cli.over_ssh`)."""
    add_job(parser, "target")
    add_state(parser, STATE)
    parser.add_argument("--said", choices=("-",), help=argparse.SUPPRESS)  # JSON of `said`, on standard input


def ask_staged(options: argparse.Namespace, step: str, **more: Any) -> dict[str, Any]:
    """The answer of the agent that keeps the staged system. RemoteFailure: its error."""
    directory = os.fsencode(os.path.abspath(options.state))
    answer = ask(directory, "stage", PATIENCE, step=step, options={**said(options), **more})
    answer.pop("done", None)
    return answer


def said(options: argparse.Namespace) -> dict[str, Any]:
    """What the operator decides: policy and rules as text, ignored ids. Not given is not in it."""
    if getattr(options, "said", None):
        told = json.loads(sys.stdin.read() or "{}")
        return {key: value for key, value in told.items() if value}
    found: dict[str, Any] = {}
    for name in ("policy", "rules"):
        if path := getattr(options, name, None):
            found[name] = text_of(path)
    if getattr(options, "ignore", None):
        found["ignore"] = list(options.ignore)
    return found


def text_of(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}", remedy="name a readable TOML file") from error
