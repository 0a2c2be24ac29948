"""The cutover of a whole server (docs/internals/server-job.md): the steps of `cutover`, then settle, arm, hand over.

Before the hand-over every failure lets the workload go at once, and then takes back what the target did. The hand-over
is a durable note; only after it the target is told to go, by `livelift.source.waiting`.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from livelift.cutover import addresses, choice
from livelift.cutover.addresses import Held
from livelift.cutover.cutover import NO_HOOKS, Cutover, Hook, Source
from livelift.cutover.server_fence import ServerFence
from livelift.cutover.steps import Step
from livelift.errors import LiveliftError, LockedError, StateError
from livelift.lifecycle.standing import Phase, System, parse
from livelift.model.verdict import Verdict

log = logging.getLogger(__name__)

ROUNDS: Final = 3
"""Times that the adaptation is made again because the source has changed what it was made from."""
PATIENCE: Final = 60.0
"""Seconds for the questions of a preview."""
UNDO: Final = 10.0
"""Seconds for the target to take a step back. If it cannot be reached it does so at the next greeting."""


class ServerSource(Source, Protocol):
    def ask(self, verb: str, deadline: float, **options: Any) -> dict[str, Any]:
        """A step of the target's."""

    def tell_facts(self, deadline: float) -> None:
        """The target knows this machine as it is now."""

    def target_address(self) -> str: ...

    def hand(self, handover: Any) -> None:
        """The point of no return, durable."""


class ServerCutover(Cutover):
    """``fence_timeout``: seconds for all that is done behind the fence. ``record``: makes the value that the source
    remembers the hand-over by (`livelift.source.handover.Handover`). ``tops``: source directory of each map line."""

    def __init__(
        self,
        source: ServerSource,
        fence: ServerFence,
        label: str,
        timeout: float,
        fence_timeout: float,
        record: Callable[..., Any],
        tops: Sequence[str] = ("/",),
        clock: Callable[[], float] = time.monotonic,
        hook: Hook = NO_HOOKS,
    ) -> None:
        super().__init__(source, fence, label, timeout, clock, hook)
        self._server = source
        self._whole = fence
        self._fence_timeout = fence_timeout
        self._record = record
        self._tops = tops
        self._living: set[str] = set()
        self._held: tuple[Held, ...] = ()
        self.attempt = secrets.token_hex(8)

    # -- asked by the source's service -------------------------------------------------------------------------------

    @property
    def notes(self) -> list[str]:
        living = f"differs, as what must live writes it: {', '.join(sorted(self._living))}"
        return [*self._whole.notes, *([living] if self._living else [])]

    def preview(self) -> dict[str, Any]:
        """What would be done, and to whom. The target is asked, nothing is changed. ``busy``: with what it is for
        minutes, so that it was not asked for what depends on that; the cutover itself waits for it."""
        deadline, stale, busy = self._clock() + PATIENCE, [], ""
        self._whole.check_block()
        try:
            self._server.tell_facts(deadline)
            self._check_ways(deadline)
            stale = self._server.ask("stale", deadline).get("why", [])
        except LiveliftError as error:
            if error.code != LockedError.code:
                raise
            busy = str(error.args[0])
        decided = self._whole.decisions()
        return {
            **super().preview(),
            "units": [{"unit": d.path, "freeze": d.freeze, "reason": d.reason} for d in decided],
            "addresses": [{"interface": h.interface, "moves": list(h.moves)} for h in self._held],
            "stale": stale,
            "busy": busy,
        }

    def handed_over(self) -> None:
        """Right after the hand-over; nothing here can fail it any more."""
        self._whole.move_addresses()

    def fence_again(self) -> None:
        """In an agent that was started behind a hand-over."""
        self._whole.again()

    def told(self, event: str, reason: str) -> None:
        """What has become of it: the hooks of ``hand-over``, ``serve``, ``back`` and ``commit``. They can fail nothing
        any more."""
        try:
            self.hook(event, "after", reason)
        except LiveliftError as error:
            self._whole.notes.append(str(error.args[0]))
            log.error("%s", error)

    # -- steps -------------------------------------------------------------------------------------------------------

    def _steps(self) -> list[Step]:
        return [
            Step("prepare", self._prepare),
            *super()._steps()[1:],
            Step("settle", self._settle, lambda: self._take_back("unsettle")),
            Step("arm", self._arm, lambda: self._take_back("disarm", attempt=self.attempt)),
            Step("hand-over", self._hand_over),
        ]

    def _hooked(self, step: Step) -> Step:
        return self._timed(step, last=step.name == "hand-over")

    def _check_ways(self, deadline: float) -> None:
        """PreflightError, StateError: this hand-over could not be heard of, or not be kept."""
        self._whole.check_block()
        self._held = addresses.look(self._server.ask("addresses", deadline).get("moves", []))
        if self._held:
            addresses.check_path(self._held, self._server.target_address())

    def _prepare(self) -> None:
        """Nothing is fenced: the slow parts. The adaptation is as new as the source at the end of it."""
        deadline, why = self._deadline, []
        self._server.tell_facts(deadline)  # an address or a service may have come since the agent was started
        for _ in range(ROUNDS):
            if self._server.ask("stale", deadline).get("stale"):
                self._server.ask("adapt", deadline)
            self._server.ask("install", deadline)
            self._server.prepare(deadline)
            told = self._server.ask("stale", deadline)
            if not told.get("stale"):
                self._check_ways(deadline)
                return
            why = told.get("why", [])
        raise StateError(
            f"the source keeps changing what the adaptation is made from: {'; '.join(why[:5])}",
            remedy="is a package being installed, or a configuration tool at work? Try again when it is done",
        )

    def _up(self) -> None:
        self._deadline = min(self._deadline, self._clock() + self._fence_timeout)
        super()._up()

    def _allowed(self, verdict: Verdict) -> Verdict:
        """Without what is written by the services that must live; that is told in the notes."""
        paths = [f"{self._tops[d.map].rstrip('/')}/{os.fsdecode(d.path)}" for d in verdict.found]
        living = {path for path in paths if choice.is_living(path)}
        if not living:
            return verdict
        self._living |= living
        rest = [d for d, path in zip(verdict.found, paths, strict=True) if path not in living]
        listing = [text for text, path in zip(verdict.listing, paths, strict=False) if path not in living]
        return Verdict(len(rest), listing, {**verdict.report, "living": sorted(self._living)}, rest)

    def _settle(self) -> None:
        self._mark("settle")
        self._server.ask("settle", self._deadline)

    def _arm(self) -> None:
        self._mark("arm")
        self._fence.check()
        self._server.ask("arm", self._deadline, attempt=self.attempt)

    def _hand_over(self) -> None:
        self._whole.block(self._held)
        self._fence.check()
        told = parse(self._server.ask("standing", self._deadline, attempt=self.attempt))
        if (told.system, told.phase, told.attempt) != (System.OLD, Phase.ARMED, self.attempt):
            raise StateError(
                f"the target is not armed: {told.system} system, {told.phase} {told.reason}".rstrip(),
                remedy="see the target's log, then try the cutover again",
            )
        if self._clock() > self._deadline:
            raise StateError("no time is left for the hand-over", remedy="give a longer --fence-timeout")
        assert self._verdict is not None
        self._server.hand(
            self._record(
                attempt=self.attempt,
                label=self._label,
                fenced=self._fenced_at,
                handed=time.time(),
                seconds=dict(self.durations),
                report={**self._verdict.report, "cut_lsn": self._lsn},
            )
        )

    def _take_back(self, verb: str, **options: Any) -> None:
        try:
            self._server.ask(verb, self._clock() + UNDO, **options)
        except LiveliftError as error:
            log.warning("%s: %s; the target does it when it is greeted again", verb, error.args[0])
