"""Waiting until everything that has happened is in the log, and on the target.

Every wait ends at a deadline, or when it can no longer come true.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from livelift.errors import StateError, UnreachableError
from livelift.lifecycle.states import State
from livelift.source.times import tell_times

if TYPE_CHECKING:
    from livelift.source.agent import SourceAgent

SOME = 3
"""Objects that are named where a drain has not ended in its time."""
PURGE_EVERY = 0.1
"""Seconds; where nothing is in limbo it is one question to the index."""
SILENT = 10.0
"""Seconds without a word from the target, which acknowledges every second, after which a cutover is given up."""


class Drain:
    def __init__(self, agent: SourceAgent) -> None:
        self._agent = agent

    def settle(self, deadline: float) -> None:
        """Wait until everything that has happened is in the log. Raises StateError at the deadline."""
        self._agent.dirty.set_hurry(True)
        try:
            quiet = 0
            while quiet < 2:
                self._agent.check()
                self.wait_until(lambda: self._agent.follower.sync(self._agent.capture, 1.0), deadline, "the capture")
                tell_times(self._agent.journal, self._agent.brackets, self._agent.dirty)
                self._wait_settled(deadline)
                quiet += 1
                if not self.is_settled():
                    quiet = 0
        finally:
            self._agent.dirty.set_hurry(False)

    def _wait_settled(self, deadline: float) -> None:
        """What is to be read below a directory in limbo is not found there before that is claimed or given up, and with
        a fence nobody else gives it up."""
        purged = time.monotonic()

        def settled() -> bool:
            nonlocal purged
            if self.is_settled():
                return True
            if time.monotonic() - purged > PURGE_EVERY:
                self._agent.house.purge_limbo()
                purged = time.monotonic()
            return False

        self.wait_until(settled, deadline, self.unsettled)

    def unsettled(self) -> str:
        """What is still to be done until everything that has happened is in the log, with some of its names."""
        agent = self._agent
        parts = []
        if not agent.walker.queue.idle():
            parts.append("directories to be listed")
        count = sum(len(each) + each.busy for each in (agent.dirty, agent.bulk))
        if count:
            some = [*agent.dirty.some(SOME), *agent.bulk.some(SOME)][:SOME]
            parts.append(f"what changed to be read: {count} ({', '.join(map(self._name, some))})")
        if agent.follower.waits:
            parts.append("names to be looked at again")
        return "; ".join(parts) or "what changed to be read"

    def _name(self, oid: int) -> str:
        path = self._agent.live.path_of(oid)
        return f"object {oid}, which has no name now" if path is None else path.decode("utf-8", "backslashreplace")

    def settle_roughly(self, deadline: float) -> None:
        """Before the fence: the walk is done and little is waiting to be read; a busy workload never gets quieter."""
        self.wait_until(self._agent.walker.queue.idle, deadline, "the rescan")
        agent = self._agent
        self.wait_until(lambda: agent.bulk.idle() and len(agent.dirty) < 1000, deadline, "the backlog to shrink")

    def is_settled(self) -> bool:
        agent = self._agent
        return agent.walker.queue.idle() and agent.dirty.idle() and agent.bulk.idle() and agent.follower.idle

    def check_link(self) -> None:
        """Behind the fence nobody waits for a link to come back: the workload stands still meanwhile."""
        if self._agent.state not in (State.FENCING, State.DRAINING, State.VERIFYING, State.CUT):
            return
        silent = time.monotonic() - self._agent.sender.heard
        if not self._agent.sender.connected.is_set() or silent > SILENT:
            raise UnreachableError(
                "the target: the link broke behind the fence", remedy="the workload goes on; try the cutover again"
            )

    def wait_until(self, condition: Callable[[], bool], deadline: float, what: str | Callable[[], str]) -> None:
        while not condition():
            self._agent.check()
            self.check_link()
            if time.monotonic() > deadline:
                raise StateError(
                    f"timed out waiting for {what if isinstance(what, str) else what()}",
                    remedy="the workload goes on; look at livelift status, then try again",
                )
            time.sleep(0.002)

    def wait_applied(self, lsn: int, deadline: float) -> None:
        sender = self._agent.sender
        while True:
            with sender.changed:
                if sender.changed.wait_for(lambda: sender.applied_lsn >= lsn, 0.2):
                    return
            self._agent.check()
            self.check_link()
            if time.monotonic() > deadline:
                raise StateError(
                    f"the target has not applied LSN {lsn} in time"
                    + (f": {sender.stalled or sender.last_error}" if sender.stalled or sender.last_error else ""),
                    remedy="the workload goes on; look at livelift status, then try again",
                )
