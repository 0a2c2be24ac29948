"""After the hand-over: asks the target, for as long as it takes, which system stands on it, and acts on the answer
(`livelift.lifecycle.standing`). Runs in a thread of its own, whoever looks on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from livelift.errors import LiveliftError
from livelift.lifecycle.standing import STAYS_OLD, Answer, Phase, System, Verdict, decide, parse
from livelift.lifecycle.states import State
from livelift.source.agent import SourceAgent
from livelift.source.handover import Handover, load, save

log = logging.getLogger(__name__)

EVERY: Final = 0.3
EVERY_SERVED: Final = 5.0
"""Seconds between two questions, while something is to be decided and after it was."""
PATIENCE: Final = 5.0
LOUD: Final = 10.0


class Waiting:
    """``back``: lets the source serve again (raises if it cannot yet); ``told``: what else is done at an outcome
    (``serve`` or ``back``). ``live``: this process has handed over. If it was another one, the source may have served
    in between, so a target that has not gone yet is not told to go any more."""

    def __init__(
        self, agent: SourceAgent, back: Callable[[], None], told: Callable[[str, str], None], live: bool
    ) -> None:
        self._agent = agent
        self._back = back
        self._told = told
        self._live = live
        self._record = load(agent.config.directory)
        self._ending = threading.Lock()
        self._began = time.monotonic()
        self._last_heard = 0.0
        self._said = 0.0
        self.wants_back = ""
        """Why the operator wants the old system back; empty: he does not."""
        self.last: Answer | None = None
        self.trouble = ""
        self.changed = threading.Condition()

    @property
    def record(self) -> Handover | None:
        return self._record

    def run(self, stop: threading.Event) -> None:
        """Until the source serves again or the move is final. ``stop``: the agent ends."""
        go = self._live
        while not stop.is_set() and self._agent.state in (State.HANDED, State.SERVED):
            try:
                first, go = go, False
                self._look(first)
            except LiveliftError as error:
                self.trouble = str(error.args[0]) if error.args else str(error)
            self._tell_silence()
            with self.changed:
                self.changed.notify_all()
            served = self._agent.state is State.SERVED and not self.wants_back
            stop.wait(EVERY_SERVED if served else EVERY)

    def _look(self, first: bool) -> None:
        if self._record is None:
            raise LiveliftError("nothing is known of the hand-over", remedy="livelift rollback --force")
        if first:
            self._ask("go")
        answer = parse(self._ask("standing"))
        self._heard(answer)
        if self.wants_back:
            self._look_back(answer)
            return
        verdict = decide(answer, self._record.attempt)
        if verdict is Verdict.GO:
            self._ask("go" if self._live else "disarm")
        elif verdict is Verdict.BACK:
            self._end("back", answer.reason or self._why_old(answer))
        elif verdict is Verdict.SERVED and self._agent.state is State.HANDED:
            self._end("serve", "", answer.boot)

    def _look_back(self, answer: Answer) -> None:
        """The operator wants the old system: what is armed is taken back, what runs goes back."""
        if answer.system == System.OLD and answer.phase in STAYS_OLD:
            self._end("back", self.wants_back)
        elif answer.system == System.OLD and answer.phase == Phase.ARMED:
            self._ask("disarm")
        elif answer.system == System.NEW and answer.phase != Phase.GOING_BACK:
            self._ask("back")

    def _why_old(self, answer: Answer) -> str:
        if answer.phase == Phase.IDLE:
            return "the target has not gone, and has nothing armed"
        return "the target is on its old system again"

    def _ask(self, verb: str) -> dict[str, Any]:
        assert self._record is not None
        return self._agent.stage.ask(verb, time.monotonic() + PATIENCE, attempt=self._record.attempt)

    def _heard(self, answer: Answer) -> None:
        self.last, self.trouble, self._last_heard = answer, "", time.monotonic()
        record = self._record
        if record is not None and record.silent and not record.heard and answer.phase != Phase.GOING:
            self._change(heard=time.time())

    def _tell_silence(self) -> None:
        """Loudly, now and then: nobody serves, and somebody should know."""
        record, now = self._record, time.monotonic()
        connected = self._agent.sender.connected.is_set()
        if record is not None and not connected and not record.silent and self._agent.state is State.HANDED:
            self._change(silent=time.time())
        if self._agent.state is State.HANDED and now - self._said >= LOUD:
            self._said = now
            log.warning("%s", self.text())

    def text(self) -> str:
        """Where the hand-over stands, in a line."""
        record, answer = self._record, self.last
        since = time.time() - record.handed if record else time.monotonic() - self._began
        if self._agent.state is State.SERVED:
            text = "the new system serves"
        elif self._agent.state is State.HANDED:
            text = f"handed over, waiting for {since:.0f} s"
        else:
            return record.reason if record else ""
        if self.wants_back:
            text += "; going back"
        if answer is None or not self._agent.sender.connected.is_set():
            silent = time.monotonic() - (self._last_heard or self._began)
            return f"{text}; the target has been silent for {silent:.0f} s"
        said = f"{answer.system} system, {answer.phase}" + (f": {answer.reason}" if answer.reason else "")
        return f"{text}; the target says: {said}" + (f" ({self.trouble})" if self.trouble else "")

    # -- the end -----------------------------------------------------------------------------------------------------

    def give_up(self, reason: str) -> None:
        """The operator has looked: the new system does not run. The source serves again, whatever the target says."""
        self._end("back", reason)

    def _end(self, event: str, reason: str, boot: dict[str, float] | None = None) -> None:
        agent = self._agent
        with self._ending:
            if agent.state not in ((State.HANDED, State.SERVED) if event == "back" else (State.HANDED,)):
                return  # the other thread was quicker
            self._settle(event, reason, boot or {})
        self._told(event, reason)

    def _settle(self, event: str, reason: str, boot: dict[str, float]) -> None:
        agent = self._agent
        if event == "back":
            self._back()
            log.warning("the source serves again: %s", reason)
            self._change(ended=time.time(), outcome="back", reason=reason)
            agent.resume("back")
        else:
            agent.note.set("served")
            self._change(ended=time.time(), outcome="served", boot=boot)
            agent.move("serve")
            log.warning("the new system has confirmed; this machine stays fenced")
        self.wants_back = ""

    def _change(self, **fields: Any) -> None:
        if self._record is not None:
            self._record = msgspec.structs.replace(self._record, **fields)
            try:
                save(self._agent.config.directory, self._record)
            except OSError as error:  # it is for the report only; the note decides
                log.error("the record of the hand-over: %s", error)

