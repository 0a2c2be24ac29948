"""Fence, drain, verify, cut. Any failure takes the fence down again before it is told.

The work is the source agent's, behind `Source`; this file holds the order, the undo and the measuring.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, NamedTuple, Protocol

from livelift.cutover.fence import Fence
from livelift.cutover.steps import Step, run
from livelift.errors import LiveliftError, MismatchError, StateError
from livelift.model.verdict import Verdict

log = logging.getLogger(__name__)


class Source(Protocol):
    """What the cutover asks of the source agent. Every method raises a LiveliftError on failure."""

    def prepare(self, deadline: float) -> None:
        """Unfenced: rescan, warm the verification, let the backlog shrink, so that the fence is short."""

    def drain(self, deadline: float) -> None:
        """Fenced: everything that happened is in the log and applied on the target; blind spots are read again."""

    def verify(self, deadline: float) -> Verdict: ...

    def repair(self, verdict: Verdict) -> None:
        """What differs is read again."""

    def open_gaps(self) -> list[str]: ...

    def cut(self, label: str, deadline: float) -> int:
        """A durable position of the log that the target has reached; its LSN."""

    def move(self, event: str) -> None:
        """A transition of `livelift.lifecycle`."""


class Result(NamedTuple):
    cut_lsn: int
    fence_seconds: float
    prepare_seconds: float
    drain_seconds: float
    verify_seconds: float
    verdict: Verdict


class Hook(Protocol):
    def __call__(self, step: str, when: str, error: str = "") -> None:
        """Run the operator's own programs ``before`` or ``after`` a step. An error fails the step."""

    def listing(self) -> dict[str, dict[str, list[str]]]:
        """Their names, by machine and by step and when."""


class NoHooks:
    def __call__(self, step: str, when: str, error: str = "") -> None:
        return

    def listing(self) -> dict[str, dict[str, list[str]]]:
        return {}


NO_HOOKS = NoHooks()


class Cutover:
    """One attempt. Iterate `run`; ``result`` is there at its end."""

    REPAIRS = 2

    def __init__(
        self,
        source: Source,
        fence: Fence,
        label: str,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
        hook: Hook = NO_HOOKS,
    ) -> None:
        self._source = source
        self._fence = fence
        self._label = label
        self._clock = clock
        self.hook = hook
        self._timeout = timeout
        self._deadline = 0.0
        self._marks: dict[str, float] = {}
        self._begun = self._is_up = False
        self._fenced_at = 0.0
        self._lsn = 0
        self._verdict: Verdict | None = None
        self.durations: dict[str, float] = {}
        """Seconds that each step took, with its hooks; of the fence, what came before the workload stood still is
        ``ready``."""
        self._step_began = 0.0
        self.result: Result | None = None

    @property
    def fence_name(self) -> str:
        return self._fence.name

    @property
    def notes(self) -> list[str]:
        """What is weaker than it should be."""
        return []

    def preview(self) -> dict[str, Any]:
        """What would be done; changes nothing."""
        return {
            "would": [step.name for step in self._steps()],
            "fence": self.fence_name,
            "gaps": len(self._source.open_gaps()),
            "hooks": self.hook.listing(),
        }

    def fence_down(self) -> None:
        """Rollback after the cut: the workload goes on."""
        self._fence.down()

    def fence_stays(self) -> None:
        """The agent ends; the fence is to outlive it."""
        self._fence.hold()

    def run(self) -> Generator[str, None, None]:
        self._mark("begin")
        self._deadline = self._marks["begin"] + self._timeout
        name = ""
        try:
            with closing(run([self._hooked(step) for step in self._steps()])) as going:
                for name in going:
                    yield name
        except BaseException as error:
            self._aborted(name, error)
            raise
        self._mark("end")
        self.result = self._result()

    def _steps(self) -> list[Step]:
        return [
            Step("prepare", lambda: self._source.prepare(self._deadline)),
            Step("fence", self._up, self._abort, at_once=self._down),
            Step("drain", self._drain),
            Step("verify", self._verify),
            Step("cut", self._cut),
        ]

    def _hooked(self, step: Step) -> Step:
        return self._timed(step)

    def _timed(self, step: Step, last: bool = False) -> Step:
        """With its hooks. ``last``: nothing that comes after it can fail it."""

        def do() -> None:
            self._step_began = time.monotonic()
            self.hook(step.name, "before")
            step.do()
            if not last:
                self.hook(step.name, "after")
            self._took(step.name)

        return step._replace(do=do)

    def _took(self, name: str) -> None:
        now = time.monotonic()
        self.durations[name], self._step_began = round(now - self._step_began, 3), now

    def _aborted(self, step: str, error: BaseException) -> None:
        """Everything is undone by now. These hooks can fail nothing any more."""
        why = "the operator went away" if isinstance(error, GeneratorExit) else str(error)
        try:
            self.hook("abort", "after", f"{step}: {why}")
        except LiveliftError as failure:
            log.error("%s", failure)

    def _mark(self, name: str) -> None:
        self._marks[name] = self._clock()

    def _result(self) -> Result:
        assert self._verdict is not None
        marks = self._marks
        return Result(
            self._lsn,
            marks["end"] - marks["fence"],
            marks["fence"] - marks["begin"],
            marks["verify"] - marks["drain"],
            marks["cut"] - marks["verify"],
            self._verdict,
        )

    def _up(self) -> None:
        self._source.move("fence")  # refused: the one that is up, if any, belongs to another attempt, or to a cut
        self._begun = self._is_up = True
        self._fence.ready()
        self._took("ready")
        self._mark("fence")
        self._fenced_at = time.time()
        self._fence.up()

    def _down(self) -> None:
        if self._is_up:
            self._fence.down()
            self._is_up = False

    def _abort(self) -> None:
        if self._begun and not self._is_up:  # never said to be following while the fence may be up
            self._source.move("abort")

    def _drain(self) -> None:
        self._source.move("drain")
        self._mark("drain")
        self._source.drain(self._deadline)

    def _allowed(self, verdict: Verdict) -> Verdict:
        """Without the differences that are meant to be."""
        return verdict

    def _verify(self) -> None:
        self._source.move("verify")
        self._mark("verify")
        for attempt in range(self.REPAIRS + 1):
            verdict = self._allowed(self._source.verify(self._deadline))
            gaps = self._source.open_gaps()
            if not verdict.differences and not gaps:
                self._verdict = verdict
                return
            if attempt < self.REPAIRS and verdict.differences:
                self._source.repair(verdict)
                self._source.move("drain")
                self._source.drain(self._deadline)
                self._source.move("verify")
        if gaps:
            raise StateError(
                f"{len(gaps)} gaps are open: {'; '.join(gaps[:5])}",
                remedy="livelift status lists them with what to do; then try the cutover again",
            )
        raise MismatchError(
            f"{verdict.differences} differences: {'; '.join(verdict.listing[:5])}",
            remedy="livelift verify lists them all; is something still writing on either side?",
        )

    def _cut(self) -> None:
        self._mark("cut")
        self._fence.check()
        self._lsn = self._source.cut(self._label, self._deadline)
        self._source.move("cut")
