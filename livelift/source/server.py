"""A server job on the source: its facts go to the target as soon as there is a link, and again whenever they are asked
for; and what a whole system's walk leaves out."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from livelift.adapt.linux.layout import hollow, left_out
from livelift.checks.findings import Finding, Level
from livelift.errors import LiveliftError, StateError, UnreachableError
from livelift.model.facts import ServerFacts
from livelift.model.job import Map

if TYPE_CHECKING:
    from livelift.source.agent import SourceAgent

log = logging.getLogger(__name__)

PATIENCE: Final = 120.0
"""Seconds for the target to collect its own facts."""
AGAIN: Final = 5.0


def facts_of() -> ServerFacts:
    from livelift.facts.collect import collect  # here: they need Linux, and this module is loaded on Windows too
    from livelift.facts.host import Host

    host = Host()
    try:
        return collect(host)
    finally:
        host.close()


def leave_out(maps: Sequence[Map], facts: ServerFacts) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """(``left``, ``hollow``) of `livelift.source.config.SourceConfig`, for a job with these lines."""
    tops = [os.fsdecode(line.source) for line in maps]
    return (
        tuple(map(os.fsencode, left_out(facts, tops))),
        tuple(map(os.fsencode, hollow(facts))),
    )


def check_lines(maps: Sequence[Map]) -> list[Finding]:
    """A mount point of the target that is a symlink here would be mounted somewhere else in the new system."""
    found = []
    for line in maps:
        real = os.path.realpath(line.source)
        if real != line.source and os.path.isdir(real):
            name = os.fsdecode(line.source)
            found.append(
                Finding(
                    "mountpoint-symlink",
                    Level.INHIBITOR,
                    f"{name} has a file system of its own on the target, but is a symlink to {os.fsdecode(real)} here",
                    f"make {name} a directory on the source, or leave it out: --without {name}",
                )
            )
    return found


class ServerJob:
    def __init__(self, agent: SourceAgent) -> None:
        self._agent = agent
        self._lock = threading.Lock()
        self.target: dict[str, Any] = {}

    def run(self, stop: threading.Event) -> None:
        """Until the target has the facts of this start of the agent."""
        while not stop.wait(AGAIN if self._agent.sender.connected.is_set() else 0.5):
            if self._agent.sender.channel is None:
                continue
            try:
                self.tell(time.monotonic() + PATIENCE)
                return
            except (UnreachableError, StateError) as error:
                log.info("facts: %s", error)
            except LiveliftError as error:
                log.error("facts: %s", error)  # said again at the next step that needs them
                return

    def tell(self, deadline: float) -> dict[str, Any]:
        """This machine's facts, taken now; the target's. Errors as of `livelift.source.stage.StageClient.ask`."""
        with self._lock:
            facts = msgspec.to_builtins(facts_of())
            self.target = self._agent.stage.ask("facts", deadline, facts=facts)["facts"]
            return self.target
