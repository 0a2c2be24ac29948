"""Processes of the demo: short commands that must succeed, and long-running children that are ended in order.

Every child gets a session of its own, so Ctrl-C reaches only the demo, which then takes all down in reverse order.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from livelift.errors import LiveliftError, PreflightError

SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
"""`su` without `-` keeps a user's PATH (Debian 10 and later), which lacks the administrator's tools."""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{os.environ.get('PATH', '/usr/bin:/bin')}:{SYSTEM_PATH}",
        "LC_ALL": "C.UTF-8",
        **(extra or {}),
    }


def find_tool(name: str, package: str) -> str:
    """Path of a command; `PreflightError` that names the Debian package where it is missing."""
    found = shutil.which(name, path=environment()["PATH"])
    if found is None:
        raise PreflightError(f"the command {name} is missing", remedy=f"apt-get install {package}")
    return found


def run(
    argv: Sequence[str | Path], *, timeout: float = 120, check: bool = True, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. A failure raises `LiveliftError` with the line to copy and what it said."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=timeout,
            env=environment(extra),
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise LiveliftError(f"no end within {timeout:.0f} s: {shlex.join(words)}") from error
    if check and done.returncode != 0:
        text = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise LiveliftError(f"exit {done.returncode}: {shlex.join(words)}\n{text}")
    return done


class Child:
    """A long-running process whose output goes to ``log``; ``errors`` (default: the same file) takes its stderr."""

    def __init__(self, name: str, argv: Sequence[str | Path], log: Path, errors: Path | None = None) -> None:
        self.name = name
        self.log = log
        self.errors = errors or log
        with open(log, "ab") as out, open(self.errors, "ab") as err:
            self._process = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment({"PYTHONUNBUFFERED": "1"}),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        return self._process.poll()

    def tail(self, lines: int = 15) -> str:
        """The last lines of what it wrote on stderr, for a person who wants to know why it ended."""
        return "\n".join(self.errors.read_text(errors="replace").splitlines()[-lines:])

    def require_alive(self) -> None:
        """Raise `LiveliftError` with the end of its log if it has ended."""
        if (code := self.exit_code()) is not None:
            raise LiveliftError(f"{self.name} ended with {code}; the end of its log:\n{self.tail()}")

    def signal(self, number: int) -> None:
        if self.exit_code() is None:
            self._process.send_signal(number)

    def wait(self, timeout: float) -> int | None:
        """Its exit code, or None after ``timeout`` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, grace: float = 5) -> None:
        """SIGTERM, ``grace`` seconds, SIGKILL to its whole session's group; returns when it is gone."""
        self.signal(signal.SIGTERM)
        if self.wait(grace) is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._process.wait()
