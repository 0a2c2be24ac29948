"""Fence, drain, verify, cut. Any failure takes the fence down again before it is told.

The work is the source agent's, behind `Source`; this file holds the order, the undo and the measuring.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from livelift.cutover.fence import Fence
from livelift.cutover.steps import Step, run
from livelift.errors import MismatchError, StateError
from livelift.model.verdict import Verdict


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


class Cutover:
    """One attempt. Iterate `run`; ``result`` is there at its end."""

    REPAIRS = 2

    def __init__(
        self, source: Source, fence: Fence, label: str, timeout: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source = source
        self._fence = fence
        self._label = label
        self._clock = clock
        self._timeout = timeout
        self._deadline = 0.0
        self._marks: dict[str, float] = {}
        self._lsn = 0
        self._verdict: Verdict | None = None
        self.result: Result | None = None

    @property
    def fence_name(self) -> str:
        return self._fence.name

    def fence_down(self) -> None:
        """Rollback after the cut: the workload goes on."""
        self._fence.down()

    def run(self) -> Iterator[str]:
        began = self._clock()
        self._deadline = began + self._timeout
        yield from run(
            [
                Step("prepare", lambda: self._source.prepare(self._deadline)),
                Step("fence", self._up, self._down),
                Step("drain", self._drain),
                Step("verify", self._verify),
                Step("cut", self._cut),
            ]
        )
        end = self._clock()
        assert self._verdict is not None
        self.result = Result(
            self._lsn,
            end - self._marks["fence"],
            self._marks["fence"] - began,
            self._marks["verify"] - self._marks["drain"],
            self._marks["cut"] - self._marks["verify"],
            self._verdict,
        )

    def _up(self) -> None:
        self._source.move("fence")
        self._marks["fence"] = self._clock()
        self._fence.up()

    def _down(self) -> None:
        if "fence" not in self._marks:
            return  # refused before it was up; the one that is up, if any, belongs to another attempt, or to a cut
        self._fence.down()  # first of all: the workload goes on
        self._source.move("abort")

    def _drain(self) -> None:
        self._source.move("drain")
        self._marks["drain"] = self._clock()
        self._source.drain(self._deadline)

    def _verify(self) -> None:
        self._source.move("verify")
        self._marks["verify"] = self._clock()
        for attempt in range(self.REPAIRS + 1):
            verdict = self._source.verify(self._deadline)
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
        self._marks["cut"] = self._clock()
        self._lsn = self._source.cut(self._label, self._deadline)
        self._source.move("cut")
