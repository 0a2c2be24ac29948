"""The take-over of a whole server, as the target's agent and the command line drive it. docs/internals/server-job.md.

    old system    install, arm, disarm, uninstall
    stage         see `stage`
    new system    confirm, back, commit
    either        standing

Every call may be repeated after an interruption. They do not run beside each other: the caller sees to that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from livelift.checks.findings import Finding
from livelift.facts.host import Host
from livelift.model.facts import ServerFacts
from livelift.platform.linux.host import boot_id
from livelift.takeover import arming, installing, moved, watchdog
from livelift.takeover.plan_config import Options
from livelift.takeover.records import (
    ARMED,
    BACK,
    COMMITTING,
    CONFIRMED,
    INTERRUPTED,
    RETURNED,
    TRYING,
    Records,
    State,
)
from livelift.takeover.site import Run, Site

__all__ = ["Options", "Standing", "TakeOver"]


class Standing(NamedTuple):
    """``system``: old, new or mixed. ``phase``: as of `records`, empty if nothing is installed. ``attempts``: of the
    stage. ``reason``: why the old system stands again. ``at``: when that was written, ns since 1970. ``shot``: how it
    is armed (`oneshot`). ``missed``: it was armed, and the machine has booted without the stage. ``counting``: who
    counts boots before the commit. ``watchdog``: seconds left, and hardware or software; empty if none runs.
    ``failing``: what the last look of confirm was not content with."""

    system: str
    phase: str = ""
    confirmed: bool = False
    attempts: int = 0
    reason: str = ""
    at: int = 0
    shot: str = ""
    missed: bool = False
    counting: str = ""
    watchdog: str = ""
    failing: str = ""

    def to_dict(self) -> dict[str, Any]:
        return self._asdict()


class TakeOver:
    """``root``: of the system that runs; another one, and another ``run``, for tests."""

    def __init__(self, root: str = "/", run: Run | None = None) -> None:
        self._site = Site(root, run)

    def install(
        self, facts: ServerFacts, mounts: Sequence[str], options: Options | None = None, dry_run: bool = False
    ) -> list[Finding]:
        """See `installing.install`."""
        return installing.install(self._site, facts, mounts, options or Options(), dry_run)

    def arm(self) -> None:
        """See `arming.arm`."""
        arming.arm(self._site)

    def check(self) -> None:
        """See `arming.check`."""
        arming.check(self._site)

    def disarm(self) -> None:
        """See `arming.disarm`."""
        arming.disarm(self._site)

    def uninstall(self) -> None:
        """See `installing.uninstall`."""
        installing.uninstall(self._site)

    def confirm(self) -> list[str]:
        """See `moved.confirm_now`."""
        host = Host(self._site.root)
        try:
            return moved.confirm_now(self._site, host)
        finally:
            host.close()

    def back(self) -> None:
        """See `moved.back`."""
        moved.back(self._site)

    def commit(
        self, free: bool = False, ignored: Collection[str] = (), begins: Callable[[], None] = lambda: None
    ) -> list[Finding]:
        """See `moved.commit`."""
        host = Host(self._site.root)
        try:
            return moved.commit(self._site, host, free, ignored, begins)
        finally:
            host.close()

    def standing(self) -> Standing:
        """CorruptError: what is written down is damaged."""
        system = self._site.system()
        try:
            records = Records(self._site.root)
        except FileNotFoundError:
            return Standing(system)
        try:
            config, state = records.config(), records.state()
            failing = records.failing()
        finally:
            records.close()
        if config is None or state is None:
            return Standing(system)
        phase, reason, missed = _seen_from(system, state)
        return Standing(
            system=system,
            phase=phase,
            confirmed=phase in (CONFIRMED, COMMITTING),
            attempts=state.attempts,
            reason=reason,
            at=state.at,
            shot=state.shot,
            missed=missed,
            counting=config.counting,
            watchdog=watchdog.ask("status"),
            failing=failing if system == "new" else "",
        )


def _seen_from(system: str, state: State) -> tuple[str, str, bool]:
    """(phase, reason, missed): the stage may have been interrupted before it could write what had become of it."""
    if system == "old" and state.phase in (TRYING, BACK):
        return RETURNED, state.reason or INTERRUPTED, False
    return state.phase, state.reason, state.phase == ARMED and state.boot != boot_id()
