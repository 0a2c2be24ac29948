"""The states of a job, as a table. The diagram in docs/internals/job-states.md is generated from it.

Rule 1: everything about states and transitions is in this file. Rule 2: this file knows nobody who uses it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from livelift.errors import StateError


class State(StrEnum):
    CONNECTING = "connecting"  # paired, waiting for the target
    INITIAL = "initial"  # the first walk is on
    FOLLOWING = "following"  # everything is on the target or on its way
    FENCING = "fencing"  # the workload is being stopped
    DRAINING = "draining"  # fenced; the last changes go over
    VERIFYING = "verifying"  # fenced; the two trees are compared
    CUT = "cut"  # the replica is the source at one instant; the source stays fenced
    HANDED = "handed"  # of a whole server: the target was told to take over, and has not said yet what stands there
    SERVED = "served"  # the new system has confirmed; the source stays fenced, and can be gone back to
    COMMITTED = "committed"  # the new system is final
    STOPPED = "stopped"  # the agent ended; starting it goes on
    FAILED = "failed"  # the agent cannot go on by itself


MOVES: Final[dict[State, dict[str, State]]] = {
    State.CONNECTING: {"walk": State.INITIAL, "follow": State.FOLLOWING, "stop": State.STOPPED, "fail": State.FAILED},
    State.INITIAL: {"follow": State.FOLLOWING, "stop": State.STOPPED, "fail": State.FAILED},
    State.FOLLOWING: {"walk": State.INITIAL, "fence": State.FENCING, "stop": State.STOPPED, "fail": State.FAILED},
    State.FENCING: {"drain": State.DRAINING, "abort": State.FOLLOWING, "fail": State.FAILED},
    State.DRAINING: {"verify": State.VERIFYING, "abort": State.FOLLOWING, "fail": State.FAILED},
    State.VERIFYING: {"cut": State.CUT, "drain": State.DRAINING, "abort": State.FOLLOWING, "fail": State.FAILED},
    State.CUT: {
        "rollback": State.FOLLOWING,
        "abort": State.FOLLOWING,
        "hand": State.HANDED,
        "stop": State.STOPPED,
        "fail": State.FAILED,
    },
    State.HANDED: {"serve": State.SERVED, "back": State.FOLLOWING, "stop": State.STOPPED, "fail": State.FAILED},
    State.SERVED: {"commit": State.COMMITTED, "back": State.FOLLOWING, "stop": State.STOPPED, "fail": State.FAILED},
    State.COMMITTED: {"back": State.FOLLOWING, "stop": State.STOPPED, "fail": State.FAILED},
    State.STOPPED: {"start": State.CONNECTING},
    State.FAILED: {"start": State.CONNECTING},
}


def move(state: State, event: str) -> State:
    """The state after ``event``. StateError if the event is not allowed now."""
    try:
        return MOVES[state][event]
    except KeyError:
        allowed = ", ".join(MOVES[state]) or "nothing"
        raise StateError(
            f"{event} is not possible while the job is {state}", remedy=f"possible now: {allowed}"
        ) from None


def diagram() -> str:
    """The table as Mermaid text."""
    lines = ["stateDiagram-v2", "    [*] --> connecting"]
    lines += [f"    {state} --> {to}: {event}" for state, moves in MOVES.items() for event, to in moves.items()]
    return "\n".join(lines) + "\n"
