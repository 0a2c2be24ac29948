"""After the hand-over: what the target says about itself, and what the source makes of it. Both sides use these words.

Only the target knows which system stands on it. The source serves again when it is told that the old one does and will
not give way by itself any more; it takes the move for done when it is told that the new one has confirmed; with
everything else, and with silence, it waits.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, NamedTuple


class System(StrEnum):
    OLD = "old"
    NEW = "new"
    MIXED = "mixed"  # a swap that is not finished


class Phase(StrEnum):
    """How far the target is with the attempt that it was asked about."""

    IDLE = "idle"  # old: nothing is armed for this attempt, and it never went
    ARMED = "armed"  # old: `go` has not come yet
    GOING = "going"  # old: about to reboot into the take-over
    RETURNED = "returned"  # old: the take-over was tried, or gone back from, and this is the old system again
    BOOTED = "booted"  # new: not confirmed yet
    CONFIRMED = "confirmed"  # new
    GOING_BACK = "going back"  # new: about to reboot into the old system


class Verdict(StrEnum):
    WAIT = "wait"
    GO = "go"  # ask it to go (again): the question was lost
    BACK = "back"  # the source serves again
    SERVED = "served"  # the new system is the server now


class Answer(NamedTuple):
    """``boot``: seconds of the parts of the boot that the target knows."""

    system: str
    phase: str
    attempt: str
    confirmed: bool
    committed: bool
    reason: str
    boot: dict[str, float]


STAYS_OLD: Final = (Phase.IDLE, Phase.RETURNED)


def parse(body: dict[str, Any]) -> Answer:
    """Of the body of a `standing` answer; what is missing is nothing that would change anything."""
    boot = body.get("boot")
    return Answer(
        str(body.get("system", "")),
        str(body.get("phase", "")),
        str(body.get("attempt", "")),
        body.get("confirmed") is True,
        body.get("committed") is True,
        str(body.get("reason", "")),
        {str(k): float(v) for k, v in boot.items() if isinstance(v, int | float)} if isinstance(boot, dict) else {},
    )


def decide(answer: Answer, attempt: str) -> Verdict:
    """``attempt``: the source's. An old system that speaks of another attempt has nothing armed for this one; a new one
    that does is not the system of this hand-over, which is nobody's to guess about."""
    ours = answer.attempt == attempt
    if answer.system == System.OLD:
        if answer.phase in STAYS_OLD:
            return Verdict.BACK
        return Verdict.GO if answer.phase == Phase.ARMED and ours else Verdict.WAIT
    if answer.system == System.NEW and answer.confirmed and ours and answer.phase != Phase.GOING_BACK:
        return Verdict.SERVED
    return Verdict.WAIT
