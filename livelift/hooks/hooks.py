"""Hooks: executables in ``DIRECTORY/<step>.<before|after>.d/``, run in the order of their names.

They are told the job in the environment: LIVELIFT_JOB, LIVELIFT_SIDE (source or target), LIVELIFT_STEP, LIVELIFT_WHEN
(before or after), LIVELIFT_STATE (of the job), LIVELIFT_ERROR (of the step ``abort``: what failed). What they print
goes into the agent's log. Root runs them, so a file or a directory that somebody else could write is refused.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterator
from typing import Any, Final

from livelift.errors import ProgramError, UsageError
from livelift.platform.linux.programs import run_program

log = logging.getLogger(__name__)

DEFAULT: Final = "/etc/livelift/hooks.d"
SECONDS: Final = 30.0
"""Of one hook: those behind the fence are part of the outage."""
STEPS: Final = (
    *("prepare", "fence", "drain", "verify", "cut", "settle", "arm", "hand-over"),
    *("abort", "serve", "back", "commit"),
)
"""The first eight in their order; the last four come when an attempt failed and was undone, when the new system has
confirmed, when the old one stands again after a hand-over, and at the commit."""
ONLY_AFTER: Final = ("abort", "serve", "back")
WHEN: Final = ("before", "after")
_PLACE: Final = re.compile(r"([a-z-]+)\.(before|after)\.d")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(\.(sh|py|pl))?")  # as run-parts(8): no backups of editors, no .dpkg-old


class Hooks:
    """``directory``: need not exist. ``seconds``: the limit of each hook."""

    def __init__(self, directory: str, job: str, side: str, seconds: float = SECONDS) -> None:
        self._directory = directory
        self._job = job
        self._side = side
        self._seconds = seconds
        self._asked = ""
        self._outcome: list[str] | ProgramError = []

    def listing(self) -> dict[str, list[str]]:
        """All of them, by ``step.when``. UsageError: a step that does not exist, a file that others can write."""
        found: dict[str, list[str]] = {}
        for name in _names(self._directory):
            match = _PLACE.fullmatch(name)
            if match is None or match[1] not in STEPS:
                raise UsageError(
                    f"{self._directory}/{name}: no step has this name",
                    remedy=f"<step>.<before|after>.d with a step of: {', '.join(STEPS)}",
                )
            if match[1] in ONLY_AFTER and match[2] == "before":
                raise UsageError(
                    f"{self._directory}/{name}: {match[1]} is told afterwards", remedy=f"name it {match[1]}.after.d"
                )
            if hooks := [os.path.basename(path) for path in self._of(match[1], match[2])]:
                found[f"{match[1]}.{match[2]}"] = hooks
        return found

    def run(self, step: str, when: str, state: str, error: str = "") -> list[str]:
        """The names of those that ran. ProgramError: one failed or took too long; those after it are not run."""
        ran = []
        for path in self._of(step, when):
            told = {"JOB": self._job, "SIDE": self._side, "STEP": step, "WHEN": when, "STATE": state, "ERROR": error}
            try:
                said = run_program([path], self._seconds, {f"LIVELIFT_{name}": value for name, value in told.items()})
            except ProgramError as failure:
                remedy = f"run {path} by hand: it must end with 0"
                raise ProgramError(f"hook {failure.args[0]}", remedy=remedy) from None
            ran.append(os.path.basename(path))
            for line in said.splitlines():
                log.info("hook %s: %s", ran[-1], line)
        return ran

    def run_once(self, key: str, step: str, when: str, state: str, error: str = "") -> list[str]:
        """As `run`. The same ``key`` again is the same question, whose answer was lost: nothing is run for it. Without
        a key every question is a new one."""
        if not key or key != self._asked:
            try:
                self._outcome = self.run(step, when, state, error)
            except ProgramError as failure:
                self._outcome = failure
            self._asked = key
        if isinstance(self._outcome, ProgramError):
            raise self._outcome
        return self._outcome

    def _of(self, step: str, when: str) -> Iterator[str]:
        place = f"{self._directory}/{step}.{when}.d"
        names = [name for name in _names(place) if _NAME.fullmatch(name)]
        if names:
            _only_ours(self._directory)
            _only_ours(place)
        for name in names:
            path = f"{place}/{name}"
            if stat.S_ISREG(_only_ours(path)):
                if not os.access(path, os.X_OK):
                    raise UsageError(f"{path} is not executable", remedy=f"chmod +x {path}, or take it away")
                yield path


def answer(hooks: Hooks, options: dict[str, Any]) -> dict[str, Any]:
    """The target's side of the verb ``hook``: run what the source's step asks for; without a step, tell which there
    are."""
    if not options:
        return {"listing": hooks.listing()}
    step, when = str(options.get("step")), str(options.get("when"))
    if step not in STEPS or when not in WHEN:
        raise UsageError(f"no hooks {step}.{when}", remedy="use the same Livelift release everywhere")
    told = str(options.get("state", "")), str(options.get("error", ""))
    return {"ran": hooks.run_once(str(options.get("key", "")), step, when, *told)}


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []


def _only_ours(path: str) -> int:
    """Its mode, of what a symlink leads to. UsageError: it belongs to somebody else, or others can write it."""
    found = os.stat(path)
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        raise UsageError(f"{path} can be written by others than root", remedy=f"chown root {path}; chmod go-w {path}")
    return found.st_mode
