"""What may be said when: the state machine of a channel, as tables.

Rule 1: everything that affects the state lives in this file.
Rule 2: `TRANSITIONS` knows no role; `SENDERS` says who may say what.
Rule 3: both ends run the same machine over the same conversation. Messages cross on the way, so a state allows all that
the peer may have sent before it saw our last message; after a Bye or Fault anything may still arrive.

`docs/internals/session-states.md` is made from these tables by `python -m livelift.protocol.session`; a test compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Final

from livelift.errors import WireError
from livelift.protocol.messages import Hello, Message, Role, Welcome, negotiate


class State(Enum):
    CONNECTING = "connecting"
    GREETED = "greeted"
    STREAMING = "streaming"
    CUTTING = "cutting"
    CLOSING = "closing"
    CLOSED = "closed"


BATCH: Final = "Batch"

_ALWAYS: Final = ("Ping", "Pong")
_ASK: Final = ("VerifyAsk", "VerifyAnswer", "StageAsk", "StageAnswer")
_WORK: Final = (BATCH, "Ack", "Resync", *_ASK, "Status", "Renew", "Renewed")
_END: Final = {"Fault": State.CLOSING, "Bye": State.CLOSING}

EVENTS: Final = (*_ALWAYS, *_WORK, "Hello", "Welcome", "CutAsk", "CutDone", "Fault", "Bye")


def _stay(state: State, *groups: tuple[str, ...]) -> dict[str, State]:
    return {event: state for group in groups for event in group}


TRANSITIONS: Final[dict[State, dict[str, State]]] = {
    State.CONNECTING: _stay(State.CONNECTING, _ALWAYS) | _END | {"Hello": State.GREETED},
    State.GREETED: _stay(State.GREETED, _ALWAYS) | _END | {"Welcome": State.STREAMING},
    State.STREAMING: _stay(State.STREAMING, _ALWAYS, _WORK) | _END | {"CutAsk": State.CUTTING},
    State.CUTTING: _stay(State.CUTTING, _ALWAYS, _WORK) | _END | {"CutDone": State.STREAMING},
    State.CLOSING: _stay(State.CLOSING, EVENTS) | {"Fault": State.CLOSED, "Bye": State.CLOSED},
    State.CLOSED: {},
}

_SOURCE: Final = frozenset({"source"})
_TARGET: Final = frozenset({"target"})
_BOTH: Final = _SOURCE | _TARGET

SENDERS: Final[dict[str, frozenset[str]]] = dict.fromkeys(EVENTS, _BOTH) | {
    "Hello": _SOURCE,
    "Welcome": _TARGET,
    BATCH: _SOURCE,
    "Ack": _TARGET,
    "Resync": _TARGET,
    "CutAsk": _SOURCE,
    "CutDone": _TARGET,
    "StageAsk": _SOURCE,
    "StageAnswer": _TARGET,
}


class Session:
    """One end's view. Tell it what was sent and what came; it raises WireError when that is not allowed and does not
    change then. No thread safety: the caller holds a lock."""

    def __init__(self, role: Role) -> None:
        self.role: Final = role
        self.peer_role: Final[Role] = "target" if role == "source" else "source"
        self.state = State.CONNECTING
        self.protocol: tuple[int, int] | None = None

    def sent(self, message: Message) -> None:
        self._step(type(message).__name__, self.role, "this agent may not send")

    def sent_batch(self) -> None:
        self._step(BATCH, self.role, "this agent may not send")

    def received(self, message: Message) -> None:
        """Raises VersionError (a WireError) when the peer's greeting names another protocol major."""
        if isinstance(message, Hello | Welcome):
            self.protocol = negotiate(message.protocol, message.version)
        self._step(type(message).__name__, self.peer_role, "the peer sent")

    def received_batch(self) -> None:
        self._step(BATCH, self.peer_role, "the peer sent")

    def _step(self, event: str, role: str, who: str) -> None:
        following = TRANSITIONS[self.state].get(event)
        if following is None:
            raise WireError(f"{who} {event} while {self.state.value}")
        if role not in SENDERS[event]:
            raise WireError(f"{who} {event}, but the {role} never does")
        self.state = following


def mermaid() -> str:
    """The tables as a Mermaid state diagram; what leaves the state as it is stands in a note."""
    return "\n".join(["stateDiagram-v2", "    [*] --> connecting", *_edges(), "    closed --> [*]", ""])


def _edges() -> Iterator[str]:
    for state, table in TRANSITIONS.items():
        for event, following in table.items():
            if following is not state:
                by = SENDERS[event]
                suffix = f" ({next(iter(by))})" if len(by) == 1 else ""
                yield f"    {state.value} --> {following.value}: {event}{suffix}"
        same = [event for event, following in table.items() if following is state]
        if state is State.CLOSING:
            same = ["whatever was on its way"]
        if same:
            yield f"    note right of {state.value}: {', '.join(same)}"


def document() -> str:
    """The whole text of docs/internals/session-states.md."""
    return (
        "# States of a channel\n\n"
        "Made from the tables of `livelift/protocol/session.py` (`python -m livelift.protocol.session`).\n\n"
        f"```mermaid\n{mermaid()}```\n\n"
        "| said | by |\n|---|---|\n"
        + "".join(f"| {event} | {', '.join(sorted(SENDERS[event]))} |\n" for event in sorted(EVENTS))
    )


if __name__ == "__main__":
    print(document(), end="")
