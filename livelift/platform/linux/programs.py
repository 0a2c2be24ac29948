"""Programs of this machine: one way to run them, with a time limit that holds, and the line in the log to repeat it by
hand."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Final

from livelift.errors import ProgramError

log = logging.getLogger(__name__)

ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
OUTPUT: Final = 1 << 20
"""Bytes of output that are kept."""


def run_program(words: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None) -> str:
    """Output of the program (both streams, the first MiB). ``environment``: in addition to `ENVIRONMENT`.

    ProgramError: it is missing, fails, or takes longer; then it is killed, with all that it has started in its session.
    Output goes to memory, not to a pipe, which a daemon that it leaves behind could hold open."""
    line = shlex.join(words)
    began = time.monotonic()
    output = os.memfd_create("output")
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={**ENVIRONMENT, **(environment or {})},
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.returncode is None:
                _end(process)
        text = os.pread(output, OUTPUT, 0).decode("utf-8", "backslashreplace")
    except OSError as error:
        raise ProgramError(f"{line}: {error}", remedy="is it installed?") from error
    finally:
        os.close(output)
    log.debug("%s: %s, %.2f s", line, "too long" if code is None else code, time.monotonic() - began)
    if code == 0:
        return text
    last = " / ".join(text.strip().splitlines()[-5:])
    why = f"took longer than {seconds:g} s" if code is None else f"ended with {code}"
    raise ProgramError(f"{line} {why}{': ' if last else ''}{last}", remedy="run it by hand and look")


def _end(process: subprocess.Popen[bytes]) -> None:
    """The whole session. One that cannot be killed (state D) is not waited for."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        log.error("process %d cannot be killed now", process.pid)
