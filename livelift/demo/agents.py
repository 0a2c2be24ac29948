"""The two agents as processes, and the verbs of the command line that the demo uses; nothing reaches into an agent."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livelift.demo.netns import Host
from livelift.demo.process import Child
from livelift.errors import LiveliftError, UnreachableError

LIVELIFT = (sys.executable, "-m", "livelift")

TAIL = 1 << 20
"""Bytes: more than one line of status, with all its lists, ever takes."""

Answer = dict[str, Any]
"""A JSON object that a verb printed."""


def last_object(text: str) -> Answer | None:
    """The JSON object on the last line that holds one."""
    for line in reversed(text.splitlines()):
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                return value
    return None


class VerbError(LiveliftError):
    """{0}"""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.exit_code = code or 1  # type: ignore[misc]  # the demo ends as the verb did


@dataclass
class Agents:
    """Source and target agent of one migration. ``command``: the words that start Livelift."""

    hosts: tuple[Host, Host]
    directory: Path
    """Where the state directories and logs go."""
    command: Sequence[str] = LIVELIFT
    target: Child | None = None
    source: Child | None = None
    watcher: Child | None = None

    @property
    def state(self) -> Path:
        """State directory of the source agent: what the verbs are asked by."""
        return self.directory / "state-source"

    def start(
        self, undo: contextlib.ExitStack, tree: Path, replica: Path, capture: str = "", fence_cgroup: Path | None = None
    ) -> None:
        """Start the target, take its pairing code, start the source with it. ``undo`` stops both, the source first."""
        mapping = ["--map", f"{tree}={replica}"]
        words = ["--listen", f"{self.hosts[1].address}:0", *mapping]
        words += ["--state", str(self.directory / "state-target"), "--json"]
        self.target = self._agent("target", self.hosts[1], words)
        undo.callback(self.target.stop)
        pairing = self._pairing(self.target)
        words = ["--pair", str(pairing["code"]), f"{self.hosts[1].address}:{pairing['port']}", *mapping]
        words += ["--state", str(self.state), "--json"]
        words += ["--capture", capture] if capture else []
        words += ["--fence-cgroup", str(fence_cgroup)] if fence_cgroup else []
        self.source = self._agent("source", self.hosts[0], words)
        undo.callback(self.source.stop)
        undo.callback(self._stop_watcher)

    def _agent(self, role: str, host: Host, words: list[str]) -> Child:
        out, err = (self.directory / f"logs/{role}.{kind}" for kind in ("out", "log"))
        return Child(f"the {role} agent", [*host.enter, *self.command, role, *words], out, err)

    def _pairing(self, target: Child, patience: float = 30) -> Answer:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            for line in target.log.read_text(errors="replace").splitlines(keepends=True):
                answer = last_object(line) if line.endswith("\n") else None
                if answer and answer.get("event") == "pairing":
                    return answer
            target.require_alive()
            time.sleep(0.05)
        raise UnreachableError(f"the target agent: no pairing code within {patience:.0f} s\n{target.tail()}")

    def require_alive(self) -> None:
        for agent in (self.target, self.source):
            if agent is not None:
                agent.require_alive()

    def status(self) -> Answer | None:
        """The newest that the source agent said about itself; None while it does not answer yet.

        ``livelift status --watch`` stays running for this: one process, not one for every look. It ends, and is started
        again here, while the agent has no control socket yet.
        """
        if self.watcher is None or self.watcher.exit_code() is not None:
            out, err = (self.directory / f"logs/status.{kind}" for kind in ("out", "log"))
            words: list[str | Path] = [*self.command, "status", "--watch", "--json", "--state", self.state]
            self.watcher = Child("livelift status --watch", words, out, err)
        with open(self.watcher.log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            lines = file.read().split(b"\n")
        # the last piece is empty, or a line that is still being written
        return last_object(lines[-2].decode()) if len(lines) > 1 else None

    def _stop_watcher(self) -> None:
        if self.watcher is not None:
            self.watcher.stop()

    def verb(self, name: str, *words: str, timeout: float, meanwhile: Callable[[], object]) -> Answer:
        """Run a verb on the source's state directory to its end, calling ``meanwhile`` all the time; its answer."""
        out, err = (self.directory / f"logs/{name}.{kind}" for kind in ("out", "log"))
        child = Child(f"livelift {name}", [*self.command, name, "--state", self.state, "--json", *words], out, err)
        deadline = time.monotonic() + timeout
        try:
            while (code := child.wait(0.2)) is None:
                self.require_alive()
                meanwhile()
                if time.monotonic() > deadline:
                    raise LiveliftError(f"no end of livelift {name} within {timeout:.0f} s\n{child.tail()}")
        finally:
            child.stop()
        return self._answer(name, code, out.read_text(), child.tail())

    def _answer(self, name: str, code: int, out: str, err: str) -> Answer:
        answer = last_object(out)
        if answer is not None and answer.get("error"):
            raise VerbError(f"livelift {name}: {answer.get('text')}", code)
        # 4 and 5: it ran to its end and found something, which the answer tells
        if answer is None or code not in (0, 4, 5):
            raise VerbError(f"livelift {name} ended with {code}\n{(err or out).strip()[-2000:]}", code)
        return answer
