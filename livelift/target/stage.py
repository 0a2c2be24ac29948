"""Answers what the source asks of a whole server's move (docs/internals/server-job.md): one step at a time, in a thread
of its own, so that the replay goes on meanwhile."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from livelift.errors import LiveliftError, LockedError, UsageError
from livelift.protocol.messages import MAX_MESSAGE, StageAnswer, StageAsk

log = logging.getLogger(__name__)

Verb = Callable[[dict[str, Any]], dict[str, Any]]

QUICK: Final = frozenset({"status", "standing"})
"""Answered at once, also while a step is under way; so is a verb of `LISTING` without options."""
LISTING: Final = frozenset({"hook"})


class Stage:
    """``verbs``: what can be asked, by name; each takes the options and gives the body of the answer. ``afterwards``:
    called once an answer was sent, or could not be."""

    def __init__(self, verbs: Mapping[str, Verb], afterwards: Callable[[], None] = lambda: None) -> None:
        self._verbs = verbs
        self._afterwards = afterwards
        self._busy = threading.Lock()
        self.doing = ""

    def handle(self, ask: StageAsk, send: Callable[[StageAnswer], None]) -> None:
        """Returns at once; the answer is sent when the step is done. Steps under way are not ended by a broken link."""
        threading.Thread(target=self._run, args=(ask, send), name=f"stage-{ask.verb}", daemon=True).start()

    def _run(self, ask: StageAsk, send: Callable[[StageAnswer], None]) -> None:
        answer = self.answer(ask)
        try:
            send(answer)
        except LiveliftError as error:
            log.warning("the answer to %s could not be sent: %s", ask.verb, error)
        finally:
            self._afterwards()

    def answer(self, ask: StageAsk) -> StageAnswer:
        """Every error is an answer."""
        try:
            return self._fitting(StageAnswer(ask.id, True, json.dumps(self._do(ask)).encode()))
        except LiveliftError as error:
            log.error("%s: %s", ask.verb, error)
            text = str(error.args[0]) if error.args else str(error)
            told = {"code": error.code, "text": text, "remedy": error.remedy, "exit": error.exit_code}
        except Exception as error:  # this thread's: the replay and the other steps go on
            log.exception("%s", ask.verb)
            told = {"code": "failed", "text": f"{ask.verb}: {error!r}", "remedy": "see the target's log", "exit": 1}
        return StageAnswer(ask.id, False, json.dumps(told).encode())

    @staticmethod
    def _fitting(answer: StageAnswer) -> StageAnswer:
        """UsageError: it would not go into one message."""
        if len(answer.body) > MAX_MESSAGE - 4096:
            raise UsageError(
                f"an answer of {len(answer.body)} bytes", remedy="ask on the target: the same verb with --side target"
            )
        return answer

    def _do(self, ask: StageAsk) -> dict[str, Any]:
        try:
            options = json.loads(ask.options)
        except ValueError as error:
            raise UsageError(f"{ask.verb}: options that are no JSON") from error
        if not isinstance(options, dict):
            raise UsageError(f"{ask.verb}: options that are no JSON object")
        return self.do(ask.verb, options)

    def alone(self, name: str, act: Callable[[], None]) -> None:
        """Something that no step may run beside; waits for the one that is under way."""
        with self._busy:
            self.doing = name
            try:
                act()
            finally:
                self.doing = ""

    def do(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        """The step itself, in the caller's thread. UsageError: there is none of this name; LockedError: another one is
        under way; and what the step raises."""
        verb = self._verbs.get(name)
        if verb is None:
            raise UsageError(f"this target does not know {name!r}", remedy="use the same Livelift release everywhere")
        if name in QUICK or (name in LISTING and not options):
            return verb(options)
        if not self._busy.acquire(blocking=False):
            raise LockedError(f"the target is busy with {self.doing}", remedy="wait for it, then run the command again")
        try:
            self.doing = name
            return verb(options)
        finally:
            self.doing = ""
            self._busy.release()
