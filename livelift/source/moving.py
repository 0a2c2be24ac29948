"""The verbs that move the service, and move it back: cutover, commit, rollback; and what is known of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Final

from livelift.control.server import Reply
from livelift.errors import LockedError, StateError, UsageError
from livelift.lifecycle.states import State
from livelift.source.agent import SourceAgent
from livelift.source.cutting import Cutting
from livelift.source.handover import load
from livelift.source.waiting import Waiting

NOT_CUT: Final = "the source serves already: a rollback is for after a cutover"
FORCE: Final = "new-system-is-off"
"""What the operator has to say with --force: that he has looked."""
MODES: Final = {False: "cut", True: "reboot"}
"""How the cutover of data and of a whole server ends."""


class Moving:
    """``make_cutover`` builds a `livelift.cutover` over `Cutting` (floor 3 rooms do not know each other)."""

    def __init__(self, agent: SourceAgent, make_cutover: Callable[[Cutting, dict[str, Any]], Any]) -> None:
        self.agent = agent
        self.cutting = Cutting(agent)
        self._make_cutover = make_cutover
        self._cutover: Any = None
        self._one = threading.Lock()
        self._waiting: Waiting | None = None
        self.result: dict[str, Any] = {}

    def start(self) -> None:
        """Behind a hand-over of an agent before this one: the fence as it was, and the question what became of it."""
        if self.agent.state in (State.HANDED, State.SERVED, State.COMMITTED):
            self._any().fence_again()
            if self.agent.state is not State.COMMITTED:
                self._wait(live=False)

    def close(self) -> None:
        if self._cutover is not None and self.agent.note.stands:
            self._cutover.fence_stays()

    def _any(self) -> Any:
        """The cutover that stands, or one that can take down what another process has put up."""
        if self._cutover is None:
            self._cutover = self._make_cutover(self.cutting, {})
        return self._cutover

    # -- cutover -----------------------------------------------------------------------------------------------------

    def cut_over(self, request: dict[str, Any]) -> Iterator[Reply]:
        agent = self.agent
        wanted = MODES[agent.config.server]
        if (request.get("mode") or wanted) != wanted:
            raise UsageError(
                f"--mode {request['mode']} is not for this job",
                remedy=f"it moves {'a whole server' if agent.config.server else 'data'}: --mode {wanted}",
            )
        if agent.state is State.CUT and not agent.config.server:
            yield {**self.result, "already": True}
        elif agent.state in (State.HANDED, State.SERVED, State.COMMITTED):
            yield from self._follow()
        elif agent.state is not State.FOLLOWING:
            raise StateError(f"no cutover while the job is {agent.state}", remedy="wait until it is following")
        elif request.get("dry_run"):
            yield {"dry_run": True, **self._make_cutover(self.cutting, request).preview()}
        else:
            yield from self._alone(request)

    def _alone(self, request: dict[str, Any]) -> Iterator[Reply]:
        if not self._one.acquire(blocking=False):
            raise LockedError("a cutover is under way", remedy="wait for it: livelift status --watch")
        try:
            yield from self._attempt(request)
        finally:
            self._one.release()
        if self.agent.config.server:
            yield from self._follow()

    def _attempt(self, request: dict[str, Any]) -> Iterator[Reply]:
        agent = self.agent
        self._cutover = cutover = self._make_cutover(self.cutting, request)
        began = time.monotonic()
        with closing(cutover.run()) as going:
            for name in going:
                yield {
                    "step": name,
                    "state": str(agent.state),
                    "seconds": round(time.monotonic() - began, 3),
                    "took": dict(cutover.durations),
                }
        result = cutover.result
        self.result = {
            "state": str(agent.state),
            "cut_lsn": result.cut_lsn,
            "fence_seconds": round(result.fence_seconds, 3),
            "prepare_seconds": round(result.prepare_seconds, 3),
            "drain_seconds": round(result.drain_seconds, 3),
            "verify_seconds": round(result.verify_seconds, 3),
            "differences": result.verdict.differences,
            "fence": cutover.fence_name,
            "capture_mode": agent.choice.name,
            "verification": result.verdict.report,
            "took": dict(cutover.durations),
            "notes": cutover.notes,
        }
        if agent.config.server:
            cutover.handed_over()
            cutover.told("hand-over", "")  # before `go`: a target that is asked to go runs no hooks any more
            self._wait(live=True)
        else:
            yield self.result

    # -- after a hand-over -------------------------------------------------------------------------------------------

    def _wait(self, live: bool) -> None:
        waiting = self._waiting = Waiting(self.agent, self._any().fence_down, self._any().told, live)
        self.agent.sender.eager = True
        self.agent.spawn("waiting", lambda: waiting.run(self.agent.stop_event))

    def _follow(self) -> Iterator[Reply]:
        """A line a second until it is known what stands; the last one is the result. Who goes away changes nothing."""
        agent = self.agent
        while agent.state is State.HANDED and not agent.stop_event.is_set():
            yield {"step": "boot", "state": str(agent.state), **self.handover()}
            self._pause()
        yield {**self.result, "state": str(agent.state), **self.handover()}

    def _pause(self) -> None:
        if self._waiting is not None:
            with self._waiting.changed:
                self._waiting.changed.wait(1.0)
        time.sleep(0.7)

    def handover(self) -> dict[str, Any]:
        """For the status and the results: empty before a first hand-over."""
        waiting = self._waiting
        record = waiting.record if waiting is not None else load(self.agent.config.directory)
        if record is None:
            return {}
        last = waiting.last if waiting is not None else None
        return {
            "outcome": record.outcome,
            "reason": record.reason,
            "text": waiting.text() if waiting is not None else record.reason,
            "attempt": record.attempt,
            "fenced_at": record.fenced,
            "handed_at": record.handed,
            "outage_seconds": record.outage,
            "split": record.split(),
            "boot": record.boot,
            "target_stands": last._asdict() if last is not None else None,
            "connected": self.agent.sender.connected.is_set(),
        }

    # -- commit and rollback -----------------------------------------------------------------------------------------

    def commit(self, request: dict[str, Any]) -> Iterator[Reply]:
        """The new system is final. The source stays fenced."""
        agent = self.agent
        if agent.state is State.COMMITTED:
            yield {"state": str(agent.state), "already": True}
            return
        if agent.state is not State.SERVED:
            raise StateError(
                f"nothing to commit while the job is {agent.state}",
                remedy="a commit is for after the cutover of a whole server, when the new system has confirmed",
            )
        if request.get("dry_run"):
            would = ["make the new system final", *(["delete the old one"] if request.get("free") else [])]
            yield {"dry_run": True, "would": would, "state": str(agent.state)}
            return
        cutover, record = self._any(), load(agent.config.directory)
        cutover.hook("commit", "before")
        yield {"step": "commit", "state": str(agent.state)}
        deadline = time.monotonic() + float(request.get("timeout") or 1800)
        options = {"free": bool(request.get("free")), "ignore": list(request.get("ignore") or ())}
        body = agent.stage.ask("commit", deadline, attempt=record.attempt if record else "", **options)
        agent.note.set("committed")
        agent.move("commit")
        cutover.told("commit", "")
        yield {"state": str(agent.state), "target": body}

    def roll_back(self, request: dict[str, Any]) -> Iterator[Reply]:
        """The source serves again, and its changes are followed again."""
        agent = self.agent
        forced = request.get("force") == FORCE
        if agent.state is State.COMMITTED and not forced:
            raise StateError(
                "the new system has been committed, the old one is gone from the target",
                remedy=f"if it does not run any more, this machine can serve: --force {FORCE}",
            )
        if agent.state not in (State.CUT, State.HANDED, State.SERVED, State.COMMITTED) or (
            agent.state is State.CUT and agent.config.server
        ):
            raise StateError(f"there is nothing to roll back while the job is {agent.state}", remedy=NOT_CUT)
        if request.get("dry_run"):
            yield {"dry_run": True, "would": self._would(forced), "state": str(agent.state)}
        elif agent.state is State.CUT:
            self._any().fence_down()
            agent.resume()
            yield self._serving("rolled back")
        elif forced:
            self._forced()
            yield self._serving("forced by the operator")
        else:
            yield from self._back(float(request.get("timeout") or 900))

    def _would(self, forced: bool) -> list[str]:
        if self.agent.state is State.CUT or forced:
            return ["take the fence down", "go on following"]
        return ["lead the target back to its old system", "take the fence down", "go on following"]

    def _forced(self) -> None:
        if self._waiting is not None and self.agent.state is not State.COMMITTED:
            self._waiting.give_up("the operator says that the new system is off")
            return
        self._any().fence_down()  # committed: nobody waits for anything
        self.agent.resume("back")

    def _back(self, timeout: float) -> Iterator[Reply]:
        agent, waiting = self.agent, self._waiting
        assert waiting is not None
        waiting.wants_back = "rolled back by the operator"
        deadline = time.monotonic() + timeout
        while agent.state in (State.HANDED, State.SERVED) and not agent.stop_event.is_set():
            if time.monotonic() > deadline:
                raise StateError(
                    f"the target has not come back to its old system in {timeout:.0f} s: {waiting.text()}",
                    remedy="it is asked for as long as this agent runs (livelift status). If you have looked and the "
                    f"new system is off or cut from the network: livelift rollback --force {FORCE}",
                )
            yield {"step": "back", "state": str(agent.state), **self.handover()}
            self._pause()
        yield self._serving("rolled back")

    def _serving(self, how: str) -> Reply:
        self.result = {}
        self._cutover = None
        return {"state": str(self.agent.state), "how": how, **self.handover()}
