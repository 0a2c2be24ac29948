"""What the stage does, from what it finds: pure.

It trusts what is written on the root's file system, not the boot entry that it was started by, but for the wish to go
back. So it does not matter which of its entries the boot loader chose, or how old the menu was that it read.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from livelift.takeover.records import (
    ARMED,
    BACK,
    COMMITTING,
    CONFIRMED,
    INSTALLED,
    INTERRUPTED,
    RETURNED,
    TRYING,
    State,
)

FORWARD: Final = "forward"
STAY: Final = "stay"
ASKED_BACK: Final = "back"
UNACKNOWLEDGED: Final = "unacknowledged"


class Decision(NamedTuple):
    """``way``: forward, back or stay. ``reason``: why back."""

    way: str
    reason: str = ""


class Limits(NamedTuple):
    """As of `records.Config`."""

    attempts: int = 2
    starts: int = 1
    tries: int = 2
    counting: str = "grub"
    seconds: int = 600


def decide(state: State | None, standing: str, wish: str, limits: Limits, now: int, failing: str = "") -> Decision:
    """``state``: None if it is missing or damaged. ``standing``: old, new or mixed. ``wish``: of the kernel's command
    line. ``now``: ns since 1970. ``failing``: what the new system's last look at itself was not content with."""
    settled_old = standing == "old"
    if state is None:
        return Decision(STAY) if settled_old else Decision(BACK, "the state of the take-over is missing or damaged")
    if state.phase == COMMITTING:
        return Decision(STAY)
    if settled_old and state.phase in (INSTALLED, RETURNED):
        return Decision(STAY)
    if wish == ASKED_BACK:
        return Decision(BACK, state.reason if state.phase == BACK else "chosen in the boot menu")
    if state.phase == BACK:
        return Decision(BACK, state.reason)
    if state.phase == CONFIRMED:
        return _confirmed(state, standing, wish, limits, failing)
    if state.phase in (ARMED, TRYING):
        return _trying(state, standing, limits, now, failing)
    return Decision(BACK, f"a {standing} system stands though the take-over is {state.phase}")


def _trying(state: State, standing: str, limits: Limits, now: int, failing: str) -> Decision:
    """An interrupted stage goes on only where it had begun to move: the old system may have run since, for GRUB may
    have seen a menu from before, and what has run is told that it stays."""
    if state.phase == TRYING and standing == "old":
        return Decision(BACK, INTERRUPTED)
    if state.entered and standing == "new":
        if state.starts < limits.starts:
            return Decision(FORWARD)
        return Decision(BACK, _not_confirmed(state, limits, now, failing))
    if state.attempts >= limits.attempts:
        return Decision(BACK, f"the stage was interrupted {state.attempts} times before the new system could start")
    return Decision(FORWARD)


def _confirmed(state: State, standing: str, wish: str, limits: Limits, failing: str) -> Decision:
    if standing != "new":
        return Decision(BACK, f"a {standing} system stands though the new one had confirmed")
    many = limits.counting == "stage" and state.starts >= limits.tries
    if wish == UNACKNOWLEDGED or many:
        told = f"; the last look: {failing}" if failing else ""
        return Decision(BACK, f"the new system did not come up {limits.tries} times after it had confirmed{told}")
    return Decision(STAY)


def _not_confirmed(state: State, limits: Limits, now: int, failing: str) -> str:
    """Whether it was the watchdog can only be told by the time that has passed."""
    seconds = max(0, now - state.entered) // 1_000_000_000
    if seconds >= limits.seconds - 5:
        how = f"nothing for {seconds} s (the watchdog's limit is {limits.seconds} s)"
    else:
        how = f"it went down {seconds} s after it was started (a panic, a reset or a power cut)"
    told = f"; the last look: {failing}" if failing else "; it never came to look at itself"
    return f"the new system did not confirm: {how}{told}"
