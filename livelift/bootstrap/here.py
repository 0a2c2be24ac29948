"""What `livelift migrate` does on the target over ssh, done on this machine: `livelift target --server --install`."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path
from typing import Any

from livelift.adapt.linux.agent_unit import NAME, render
from livelift.adapt.linux.layout import BASE
from livelift.bootstrap.remote import Machine
from livelift.errors import CommandError, PreflightError

STATE = f"{BASE}/target"
AGENT = f"{BASE}/livelift-agent"


def install_target(agent: Path, words: list[str]) -> dict[str, Any]:
    """The agent file and its unit in their places, and started: its status, and the pairing code. ``words``: further
    arguments of the agent. PreflightError: no systemd; CommandError: it does not start."""
    content = agent.read_bytes()
    request = {"state": STATE, "side": "target", "agent": AGENT, "directories": []}
    digest = hashlib.sha256(content).hexdigest()
    machine = Machine({**request, "size": len(content), "digest": digest}, BytesIO(content))
    look = machine.look()
    if not look["systemd"]:
        raise PreflightError("systemd does not run here", remedy="a whole system moves with systemd only")
    if not look["running"]:
        machine.place()
        full = [AGENT, "target", "--state", STATE, "--server", "--code-file", f"{STATE}/code", *words]
        text = render(tuple(full))
        machine.request = {**request, "unit": NAME, "unit_text": text, "systemd": True, "arguments": []}
        answer = machine.start()
        if "error" in answer:
            raise CommandError(answer["error"], remedy=f"journalctl -u {NAME}")
    return {"status": machine.status(), **machine.code()}
