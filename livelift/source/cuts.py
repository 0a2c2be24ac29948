"""Cuts without a fence: a position of the log that is the source at one instant, found while the workload runs.

A mode that tells everything in order makes every position one, except where something was read from the live tree: a
first reading, a second look, a gap. What was read then holds changes that are told later, so the log is a cut again
only when it has been told up to where the capture was when the reading went into it (`Journal.late`), and nothing else
is being read or waits to be. The follower looks for such a moment between two batches and puts a mark into the log.

Attributes that no call tells (a new object inherits them) are looked at a moment later: they are not waited for, but no
look is under way at the mark.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from livelift.errors import LiveliftError, LockedError, StateError
from livelift.lifecycle.states import State
from livelift.model.record import Kind, Mark
from livelift.ports import Ordered, ordered

if TYPE_CHECKING:
    from livelift.source.agent import SourceAgent

LABEL: Final = "copy:"
"""Begins the label of the mark; behind it the number under which the target knows the copy."""

STILL: Final = 60.0
"""Seconds for which readers of changes are held up at most, so that what they put into the log can be caught up with.
What they have begun ends first; that is never a file's content."""

LOOK: Final = 0.02
"""Seconds between two looks whether something is still to be read."""


class Cuts:
    """One at a time. What `run` yields are the lines of progress, the last one is the result."""

    def __init__(self, agent: SourceAgent) -> None:
        self._agent = agent
        self._busy = threading.Lock()

    def captured(self) -> None:
        """The capture has been started: whoever reads learns whether it tells everything."""
        agent = self._agent
        order = ordered(agent.capture)
        if order is not None:
            agent.journal.position = order.produced
            agent.follower.told.exact = True
            agent.changes.follow_exactly()

    def run(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """``to``: where on the target the copy is made (empty: none, the position is only marked). ``timeout``."""
        if not self._busy.acquire(blocking=False):
            raise LockedError("another cut is under way", remedy="wait for it, then try again")
        try:
            yield from self._run(str(request.get("to") or ""), float(request.get("timeout") or 600))
        finally:
            self._busy.release()

    def _run(self, to: str, timeout: float) -> Iterator[dict[str, Any]]:
        agent = self._agent
        order = self._order()
        began = time.monotonic()
        deadline = began + timeout
        attempt = 0
        while True:
            attempt += 1
            number = secrets.token_hex(8)
            if to:
                agent.stage.ask("copy-begin", deadline, id=number, to=to)
            try:
                seeker = _Seeker(agent, order, LABEL + number)
                for reason in seeker.seek(deadline):
                    yield {"step": "wait", "for": reason, "seconds": round(time.monotonic() - began, 1)}
                found = time.monotonic()
                yield {"step": "copy" if to else "apply", "cut_lsn": seeker.lsn}
                made: dict[str, Any] = {}
                if to:
                    made = agent.stage.ask("copy-take", deadline, id=number)
                agent.drain.wait_applied(seeker.lsn, deadline)
            except BaseException:
                if to:
                    self._drop(number)
                raise
            if _troubles(agent) == seeker.troubles:
                break
            # Something of what is before the mark did not arrive, or had to be dropped: it is read again.
            if to:
                self._drop(number)
            if time.monotonic() > deadline:
                raise _late("a position that arrived whole", "the target or the log lost something each time")
            yield {"step": "again", "for": "something before the position was lost on its way"}
        if to:
            agent.stage.ask("copy-keep", deadline, id=number)
        yield {
            "cut_lsn": seeker.lsn,
            "time": seeker.time,
            "attempts": attempt,
            "waited": round(found - began, 3),
            "capture_mode": agent.choice.name,
            **made,
        }

    def _order(self) -> Ordered:
        agent = self._agent
        order = ordered(agent.capture)
        if order is None:
            raise StateError(
                f"capture mode {agent.choice.name} reads late: while the workload runs, no position of the log is the "
                "source at one instant",
                remedy="livelift cutover makes a cut behind the fence; for cuts without one start the source with "
                "--capture ebpf",
            )
        if "mmap" in agent.choice.blind_to:
            raise StateError(
                "stores into mapped files are not told on this kernel or file system, so no position is known to be a "
                "cut",
                remedy="use livelift cutover, which reads mapped files again behind the fence",
            )
        if agent.state is not State.FOLLOWING:
            raise StateError(f"no cut while the job is {agent.state}", remedy="wait until it is following")
        if why := order.why_not():
            raise StateError(why, remedy="use livelift cutover, or start the source agent again, then try again")
        return order

    def _drop(self, number: str) -> None:
        try:
            self._agent.stage.ask("copy-drop", time.monotonic() + 10, id=number)
        except LiveliftError:
            return  # it goes with the next one


class _Seeker:
    """Looks for one position. ``lsn`` of the mark, ``time`` (ns, wall clock) and ``troubles`` at that moment are there
    when `seek` has ended."""

    def __init__(self, agent: SourceAgent, order: Ordered, label: str) -> None:
        self._agent = agent
        self._label = label
        self._wanted = order.produced()  # all that was acknowledged before the question is in the cut
        self._found = threading.Event()
        self._reason = "the capture"
        self.lsn = self.time = 0
        self.troubles = _troubles(agent)

    def seek(self, deadline: float) -> Iterator[str]:
        """Yields what is waited for, about once a second. StateError at the deadline."""
        agent = self._agent
        said = time.monotonic()
        agent.follower.at_rest = self._try
        try:
            while not self._found.is_set():
                agent.check()
                now = time.monotonic()
                if now > deadline:
                    raise _late("a position at which nothing is being read late", self._reason)
                if now - said >= 1.0:
                    said = now
                    yield self._reason
                with agent.journal.lock:
                    waits = self._waits()
                if waits:
                    self._reason = waits
                    self._found.wait(LOOK)
                    continue
                agent.changes.still.set()
                until = min(now + STILL, deadline)
                while not waits and now < until and not self._found.wait(LOOK):
                    if now - said >= 1.0:
                        said = now
                        yield self._reason
                    with agent.journal.lock:
                        waits = self._waits()
                    now = time.monotonic()
                agent.changes.still.clear()
        finally:
            agent.changes.still.clear()
            agent.follower.at_rest = _nothing

    def _try(self, passed: int) -> None:
        """The follower is between two batches: the log has everything that was told up to ``passed``."""
        agent = self._agent
        if self._found.is_set():
            return
        with agent.journal.lock:
            reason = self._waits()
            if not reason and (agent.dirty.busy or len(agent.brackets)):
                reason = "a reading to end"
            if not reason and passed < self._wanted:
                behind = self._wanted - passed
                reason = f"the capture, {behind} bytes behind, to come to where it was when the cut was asked for"
            if not reason and agent.journal.late > passed:
                behind = agent.journal.late - passed
                reason = f"the capture, {behind} bytes behind, to come to where something was read late"
            if reason:
                self._reason = reason
                return
            self.troubles = _troubles(agent)
            self.time = time.time_ns()
            self.lsn = agent.journal.put(Kind.SYNC, Mark(self._label), time=self.time)
        self._found.set()

    def _waits(self) -> str:
        """What stands in the way and is not over in a moment; the merge lock is held."""
        agent = self._agent
        waits: list[tuple[bool, Callable[[], str]]] = [
            (len(agent.gaps) > 0, lambda: f"{len(agent.gaps)} gaps to close"),
            (not agent.walker.queue.idle(), lambda: "directories to be listed"),
            (not agent.bulk.idle(), lambda: f"{len(agent.bulk) or 1} big files to be read"),
            (agent.dirty.content() > 0, lambda: f"{agent.dirty.content()} changed files to be read"),
            (not agent.follower.idle, lambda: "names to be looked at again"),
            (agent.pause.is_set(), lambda: "room in the log: the target is behind"),
            (not agent.sender.connected.is_set(), lambda: "the target"),
        ]
        return next((say() for is_so, say in waits if is_so), "")


def _troubles(agent: SourceAgent) -> tuple[int, int]:
    """How often something was found missing, here and on the target."""
    return agent.gaps.openings, agent.healer.resyncs


def _nothing(passed: int) -> None:
    return


def _late(what: str, reason: str) -> StateError:
    return StateError(
        f"timed out waiting for {what}: {reason}",
        remedy="the workload goes on; try again when it is calmer, with a longer --timeout, or use livelift cutover",
    )
