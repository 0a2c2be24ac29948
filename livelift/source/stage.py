"""Asks the target for the steps of a whole server's move that are its work (docs/internals/server-job.md)."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

from livelift.control.client import RemoteFailure
from livelift.errors import StateError, UnreachableError
from livelift.protocol.messages import StageAnswer, StageAsk

if TYPE_CHECKING:
    from livelift.source.agent import SourceAgent

_BROKEN = "it is tried again by itself; run the same command again then, what was done is not done twice"


class StageClient:
    """Any thread may ask; several questions may be under way."""

    def __init__(self, agent: SourceAgent) -> None:
        self._agent = agent
        self._ids = itertools.count(1)

    def ask(self, verb: str, deadline: float, **options: Any) -> dict[str, Any]:
        """The body of the answer. ``deadline``: of the monotonic clock. UnreachableError: the link is down or breaks
        meanwhile (the step may have been done); StateError: no answer in time; RemoteFailure: the target's error, with
        its code, remedy and exit code."""
        agent = self._agent
        channel = agent.sender.channel
        if channel is None:
            raise UnreachableError("the target: the link is down", remedy=_BROKEN)
        number = next(self._ids)
        channel.send(StageAsk(number, verb, json.dumps(options).encode()))

        def alive() -> None:
            agent.check()
            agent.drain.check_link()
            if agent.sender.channel is not channel:
                raise UnreachableError(f"the target: the link broke during {verb}", remedy=_BROKEN)

        answer = agent.answers.take(StageAnswer, number, deadline, alive)
        if answer is None:
            raise StateError(f"the target did not finish {verb} in time", remedy="see the target's log")
        body: dict[str, Any] = json.loads(answer.body)
        if not answer.ok:
            raise RemoteFailure(f"target: {body['text']}", str(body["code"]), int(body["exit"]), body)
        return body
