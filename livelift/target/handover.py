"""The take-over as the source drives it (docs/internals/server-job.md): prepared, armed, gone, and which system stands.

`TakeOver.arm` makes every next boot take over, whoever starts it. So the verb ``arm`` only looks whether that will do;
``go``, which the source sends when it has handed over durably, arms, writes down that it goes, and reboots.
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from livelift.checks.findings import Findings
from livelift.errors import StateError, UsageError
from livelift.facts.host import Host
from livelift.platform.linux.host import boot_id
from livelift.takeover.records import ARMED, BACK, COMMITTING, CONFIRMED, RETURNED
from livelift.takeover.server import Standing, TakeOver
from livelift.target.memory import Memory

log = logging.getLogger(__name__)

REBOOT_SECONDS: Final = 30.0
"""For an orderly end of the processes; then the machine is reset. Both systems' data are on disk before."""


class Handover:
    """``takeover``: of this machine. ``reboot``: called in a thread of its own once the answer was sent."""

    def __init__(self, memory: Memory, takeover: TakeOver, reboot: Callable[[], None]) -> None:
        self._memory = memory
        self._takeover = takeover
        self._reboot = reboot
        self.after: Callable[[], None] | None = None

    # before the point of no return

    def arm(self, options: dict[str, Any]) -> dict[str, Any]:
        """All that can still fail of the take-over is looked at; nothing leads to it yet."""
        attempt = _attempt(options)
        stage = self._memory.stage
        if not stage.settled:
            raise StateError("the adaptation is not settled", remedy="livelift cutover does that first")
        self._takeover.check()
        self._memory.change(attempt=attempt, going="")
        return {"armed": True}

    def disarm(self, options: dict[str, Any]) -> dict[str, Any]:
        """Nothing of an attempt is left: this machine stays what it is."""
        standing = self._takeover.standing()
        if standing.system != "old":
            raise StateError(f"the {standing.system} system stands", remedy="livelift rollback leads back from it")
        if standing.phase:
            self._takeover.disarm()
        self._memory.change(attempt="", going="")
        return {"armed": False}

    # the point of no return

    def go(self, options: dict[str, Any]) -> dict[str, Any]:
        """The mark is durable; the machine reboots when the answer was sent. Whatever fails here is taken back, and
        then it does not go."""
        attempt = _attempt(options)
        stage = self._memory.stage
        if stage.attempt != attempt:
            raise StateError("this attempt was not armed", remedy="livelift cutover begins another one")
        if stage.going == attempt and self._takeover.standing().system != "old":
            raise StateError("the new system stands already", remedy="ask for its standing")
        try:
            self._memory.change(used=True)
            self._takeover.arm()
            self._memory.change(going=attempt)
        except BaseException:
            self._memory.change(attempt="", going="")
            self._takeover.disarm()
            raise
        self.after = self._reboot
        return {"going": True}

    def resume(self) -> None:
        """At the start of the agent: one that died when it was about to reboot does so now."""
        stage = self._memory.stage
        if stage.going and not stage.committed:
            found = self._takeover.standing()
            if found.system == "old" and found.phase == ARMED and not found.missed:
                self._reboot()

    def standing(self, options: dict[str, Any]) -> dict[str, Any]:
        """See the table in docs/internals/server-job.md. idle and returned are a promise: this machine does not become
        the new system by itself any more."""
        attempt = str(options.get("attempt") or "")
        stage = self._memory.stage
        if stage.committed:
            return _told("new", "confirmed", attempt, confirmed=True, committed=True)
        found = self._takeover.standing()
        if found.system == "new":
            phase = {BACK: "going back", CONFIRMED: "confirmed", COMMITTING: "confirmed"}.get(found.phase, "booted")
            told = _told("new", phase, attempt, found, boot=boot_times())
            told["committed"] = found.phase == COMMITTING
            return told
        if found.system != "old":
            return _told(found.system, found.phase, attempt, found)
        return self._on_the_old_one(attempt, found)

    def _on_the_old_one(self, attempt: str, found: Standing) -> dict[str, Any]:
        stage = self._memory.stage
        if attempt and stage.going == attempt:
            if found.phase == ARMED and not found.missed:
                return _told("old", "going", attempt, found)
            if found.phase == ARMED:  # it booted, and not into the stage
                self._takeover.disarm()
                why = "the machine has booted without the take-over: its boot loader did not start the stage"
                return _told("old", "returned", attempt, found._replace(reason=why))
            return _told("old", "returned", attempt, found)
        if attempt and stage.attempt == attempt:
            if found.phase == ARMED:  # the agent died between arming and writing down that it goes
                self._takeover.disarm()
            return _told("old", "armed", attempt, found)
        if found.phase == ARMED:
            self._takeover.disarm()
        reason = found.reason if found.phase == RETURNED else ""
        return _told("old", "idle", attempt, found._replace(reason=reason))

    # behind it

    def back(self, options: dict[str, Any]) -> dict[str, Any]:
        """The new system leads back by one reboot; on the old one there is nothing to do."""
        if self._memory.stage.committed:
            raise StateError("the new system has been committed", remedy="there is no way back by itself")
        standing = self._takeover.standing()
        if standing.system == "old":
            return {"going": False, "system": "old"}
        if standing.phase != BACK:
            self._takeover.back()
        self.after = self._reboot
        return {"going": True, "system": standing.system}

    def commit(self, options: dict[str, Any]) -> dict[str, Any]:
        """``free``: the old system's tree is deleted. ``ignore``: ids, kept. Once begun it is final, and may
        be asked for again."""
        ignored = self._memory.ignore(options)
        stage = self._memory.stage
        standing = self._takeover.standing()
        if stage.committed and not standing.phase:
            return {"committed": True, "findings": [], "already": True}
        if standing.system != "new" or standing.phase not in (CONFIRMED, COMMITTING):
            raise StateError(
                f"the {standing.system} system stands ({standing.phase or 'nothing was taken over'})",
                remedy="a commit is for a new system that has confirmed: livelift status",
            )
        # From where it begins on the old one is not led back to; a commit that is refused before can be rolled back.
        free, begins = bool(options.get("free")), lambda: self._memory.change(committed=True)
        found = Findings(self._takeover.commit(free, ignored, begins), ignored)
        return {"committed": True, "findings": found.to_dict()["findings"], "already": False}


def _attempt(options: dict[str, Any]) -> str:
    attempt = str(options.get("attempt") or "")
    if not attempt:
        raise UsageError("no attempt is named", remedy="use the same Livelift release everywhere")
    return attempt


def _told(
    system: str,
    phase: str,
    attempt: str,
    found: Standing | None = None,
    confirmed: bool | None = None,
    committed: bool = False,
    boot: dict[str, float] | None = None,
) -> dict[str, Any]:
    return {
        "system": system,
        "phase": phase,
        "attempt": attempt,
        "confirmed": bool(confirmed if confirmed is not None else found and found.confirmed),
        "committed": committed,
        "reason": found.reason if found else "",
        "failing": found.failing if found else "",
        "boot": boot or {},
        "boot_id": boot_id(),
    }


def boot_times() -> dict[str, float]:
    """Seconds of this boot, as systemd tells them: firmware and loader, kernel, initramfs (with the stage), user
    space until it was done; and how long the machine is up. What is not known is left out."""
    host = Host()
    try:
        names = ("Firmware", "Loader", "Kernel", "InitRD", "Userspace", "Finish")
        keys = ",".join(f"{name}TimestampMonotonic" for name in names)
        text = host.try_run("systemctl", "show", f"--property={keys}") or ""
        uptime = float(host.line("/proc/uptime").partition(" ")[0] or 0)
    finally:
        host.close()
    return {**parse_times(text), "up": round(uptime, 3)}


def parse_times(text: str) -> dict[str, float]:
    """``NameTimestampMonotonic=microseconds`` lines of systemctl show; 0 is unknown. Firmware and Loader count
    backwards from the kernel's start."""
    stamps = {}
    for line in text.splitlines():
        name, _, value = line.partition("TimestampMonotonic=")
        if value.isdigit():
            stamps[name] = int(value) / 1e6
    found = {}
    if stamps.get("Firmware"):
        found["firmware"] = stamps["Firmware"] - stamps.get("Loader", 0.0)
    if stamps.get("Loader"):
        found["loader"] = stamps["Loader"]
    first = stamps.get("InitRD") or stamps.get("Userspace")
    if first:
        found["kernel"] = first
    if stamps.get("InitRD") and stamps.get("Userspace"):
        found["initramfs"] = stamps["Userspace"] - stamps["InitRD"]
    if stamps.get("Userspace") and stamps.get("Finish"):
        found["userspace"] = stamps["Finish"] - stamps["Userspace"]
    return {name: round(seconds, 3) for name, seconds in found.items()}


def reboot() -> None:
    """Everything is written to disk, then the processes are ended and the machine starts anew; one that does not end is
    reset."""
    os.sync()
    log.warning("the machine reboots")
    subprocess.run(["systemctl", "--no-block", "--force", "reboot"], check=False, stdin=subprocess.DEVNULL)

    def at_once() -> None:
        time.sleep(REBOOT_SECONDS)
        log.error("it has not gone down in %.0f s: reset", REBOOT_SECONDS)
        os.sync()
        subprocess.run(["systemctl", "--force", "--force", "reboot"], check=False, stdin=subprocess.DEVNULL)
        with open("/proc/sysrq-trigger", "w", encoding="ascii") as file:
            file.write("b")

    threading.Thread(target=at_once, name="reset", daemon=True).start()
