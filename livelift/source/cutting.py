"""What a cutover asks of the source agent: `livelift.cutover.cutover.Source`, and `ServerSource` of a whole server."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from livelift.errors import LiveliftError, LockedError, StateError, UnreachableError
from livelift.lifecycle.states import State
from livelift.model.record import Kind, Mark
from livelift.platform.system import os
from livelift.protocol.messages import CutAsk, CutDone
from livelift.source.agent import SourceAgent
from livelift.source.edge import lost_parts
from livelift.source.handover import Handover, save

COMPARED = {"mmap", "inode-flags", "project-id"}
"""What a mode may be blind to without a second look at every name behind the fence: the preparation has just taken
one, and the closing verification compares all of it by changed stamps; what it finds is read again and compared
again."""


AGAIN = 0.3


class Cutting:
    def __init__(self, agent: SourceAgent) -> None:
        self.agent = agent

    def move(self, event: str) -> None:
        agent, note = self.agent, self.agent.note
        if event == "fence":
            note.set("fenced")  # before it goes up: an agent that dies now takes it down when it is started again
        elif event == "abort":
            note.set("undone" if note.state in ("asked", "cut") else "")
            if note.state == "undone":
                agent.sender.renewed = True
        agent.move(event)

    def prepare(self, deadline: float) -> None:
        agent = self.agent
        agent.drain.wait_until(agent.sender.connected.is_set, deadline, "the target")
        agent.verifier.warm_up(deadline)
        agent.healer.mark_mapped()
        agent.walker.add(0, True)
        agent.drain.settle_roughly(deadline)
        agent.drain.wait_applied(agent.journal.spool.last_lsn, deadline)
        agent.verifier.warm_up(deadline)
        if agent.collapse_reason:  # after a rollback: the replica was a running system meanwhile
            agent.verifier.make_good(deadline)

    def drain(self, deadline: float) -> None:
        agent = self.agent
        agent.drain.settle(deadline)
        agent.healer.mark_mapped()
        if set(agent.choice.blind_to) - COMPARED:
            agent.walker.add(0, True)  # what no event told: changed stamps
        agent.drain.settle(deadline)
        agent.drain.wait_until(agent.house.purge_limbo, deadline, "what left its directory to be found")
        agent.drain.settle(deadline)
        lsn = agent.journal.put(Kind.FENCE, Mark("cutover"))
        agent.drain.wait_applied(lsn, deadline)

    def verify(self, deadline: float) -> Any:
        began = time.monotonic()
        found, outcome = self.agent.verifier.compare(deadline)
        return self.agent.verifier.verdict(found, outcome, time.monotonic() - began)

    def repair(self, verdict: Any) -> None:
        self.agent.verifier.repair(verdict.found)

    def open_gaps(self) -> list[str]:
        """What is known to be missing, objects or parts of them, but for what the operator has said to go without."""
        return [f"{g['path']}: {g['reason']} {g['detail']}".strip() for g in gap_list(self.agent, 100)] + [
            f"{os.fsdecode(p.path)}: {p.detail} [{p.code}]"
            for p in lost_parts()
            if p.code not in self.agent.config.ignored
        ]

    def cut(self, label: str, deadline: float) -> int:
        agent = self.agent
        lsn = agent.journal.put(Kind.CUT, Mark(label))
        agent.drain.wait_applied(lsn, deadline)
        channel = agent.sender.channel
        if channel is None:
            raise StateError("the link is down", remedy="it is tried again by itself; try the cutover again then")
        agent.note.set("asked")
        channel.send(CutAsk(lsn, label))
        late = StateError("the target did not confirm the cut", remedy="try the cutover again")

        def alive() -> None:
            agent.check()
            if not agent.sender.connected.is_set():
                raise late

        done = agent.answers.take(CutDone, lsn, deadline, alive)
        if done is None:
            raise late
        if done.problem:
            raise StateError(f"the target refuses the cut: {done.problem}", remedy="see the target's log")
        agent.note.set("cut")
        return lsn

    # -- of a whole server -------------------------------------------------------------------------------------------

    def ask(self, verb: str, deadline: float, **options: Any) -> dict[str, Any]:
        """A step of the target's. Errors as of `livelift.source.stage.StageClient.ask`. With nothing fenced a link that
        is down for a moment, and a target that is busy with another step, are waited for."""
        return self._patiently(lambda: self.agent.stage.ask(verb, deadline, **options), deadline)

    def tell_facts(self, deadline: float) -> None:
        """As `ask`: what this machine is now."""
        assert self.agent.server is not None
        self._patiently(partial(self.agent.server.tell, deadline), deadline)

    def _patiently(self, step: Callable[[], dict[str, Any]], deadline: float) -> dict[str, Any]:
        while True:
            try:
                return step()
            except LiveliftError as error:
                passing = error.code in (UnreachableError.code, LockedError.code)
                if not passing or self.agent.state is not State.FOLLOWING or time.monotonic() > deadline - AGAIN:
                    raise
            self.agent.check()
            time.sleep(AGAIN)

    def target_address(self) -> str:
        """UnreachableError: its name cannot be resolved."""
        config = self.agent.config
        try:
            return str(socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][4][0])
        except OSError as error:
            raise UnreachableError(f"{config.host}: {error}", remedy="name the target by an address") from error

    def hand(self, handover: Handover) -> None:
        """The point of no return. What has to be known after it is durable before it."""
        self.agent.check()
        save(self.agent.config.directory, handover)
        self.agent.note.set("handed")
        self.agent.move("hand")


def gap_list(agent: SourceAgent, limit: int) -> list[dict[str, Any]]:
    out = []
    for oid, gap in agent.gaps.listing(limit):
        path = agent.live.path_of(oid) if oid > 0 else b"(a whole volume)"
        out.append({"path": os.fsdecode(path or b"?"), "reason": gap.reason, "detail": gap.detail})
    return out
