"""What the fence of a whole server asks of systemd: lists, and the switches that keep it from disturbing what stands
still."""

from __future__ import annotations

import os
from typing import Final

from livelift.errors import LiveliftError
from livelift.platform.linux.programs import run_program

SECONDS: Final = 10.0
STOPPING: Final = 180.0
"""Seconds for units that are stopped: TimeoutStopSec is 90 s by default (systemd-system.conf(5))."""
LISTED: Final = ("--plain", "--no-legend", "--no-pager", "--full")


def is_there() -> bool:
    """sd_booted(3)."""
    return os.path.isdir("/run/systemd/system")


def active(*kinds: str) -> list[str]:
    """Names of active units of these kinds (service, socket, timer, path)."""
    said = run_program(["systemctl", "list-units", f"--type={','.join(kinds)}", "--state=active", *LISTED], SECONDS)
    return [line.split()[0] for line in said.splitlines() if line.split()]


def stop(units: list[str]) -> None:
    """ProgramError: one cannot be stopped."""
    run_program(["systemctl", "stop", "--", *units], STOPPING)


def has_watchdogs() -> bool:
    """Whether services that do not report in time are ended (systemctl(1), since version 236)."""
    try:
        return run_program(["systemctl", "service-watchdogs"], SECONDS).strip() == "yes"
    except LiveliftError:
        return False


def watchdogs_off() -> None:
    run_program(["systemctl", "service-watchdogs", "no"], SECONDS)


def journal_to_memory() -> None:
    """The journal would go on writing to /var/log/journal (journalctl(1), since version 243)."""
    run_program(["journalctl", "--relinquish-var"], SECONDS)
