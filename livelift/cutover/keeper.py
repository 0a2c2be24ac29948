"""The fence keeper: a process that lets the workload go when the agent is gone.

It is started before the fence goes up, holds the reading end of a pipe from the agent, and does nothing. When the pipe
ends (the agent died, however that was), it looks at the note in the state directory: if that says that the cutover
stands it leaves everything as it is, else it gives back what the fence took (`taken`). Either way it writes down what
it did, for `livelift status`.

It must outlive whatever ends the agent. Under systemd it runs in a scope of its own: with KillMode=control-group
(systemd.kill(5), the default) everything that is left in a unit's cgroup is killed when its main process ends. It
ignores SIGTERM, and the OOM killer passes it by.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import livelift
from livelift.cutover.taken import give_back
from livelift.errors import LiveliftError, StateError

log = logging.getLogger(__name__)

REPORT: Final = b"keeper.json"
NOTE: Final = b"cut"
LOG: Final = b"keeper.log"
STARTING: Final = 20.0
"""Seconds for an interpreter on a busy machine. Nothing is fenced meanwhile."""
TRYING: Final = 600.0
"""Seconds during which what could not be given back is tried again."""
RELEASE: Final = b"release\n"
READY: Final = b"ready"


class Keeper:
    """The agent's side. ``lets_go``: the notes with which the fence comes down when the agent is gone."""

    def __init__(self, directory: bytes, lets_go: Sequence[str]) -> None:
        self._directory = directory
        self._lets_go = lets_go
        self._process: subprocess.Popen[bytes] | None = None
        self.place = ""

    def start(self) -> None:
        """Returns when it keeps watch. StateError: it does not."""
        if self.is_alive():
            return
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self._directory, REPORT))
        said = ""
        for place, words in self._ways():
            if self._started(words):
                self.place = place
                log.info("the fence keeper runs in %s", place)
                return
            said = self._last_words()
        raise StateError(
            f"the fence keeper does not start: {said or 'it said nothing'}",
            remedy=f"see {os.fsdecode(self._directory)}/{LOG.decode()}; without it nothing is fenced",
        )

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def release(self) -> None:
        """It ends and touches nothing: the fence is down, or it is to stay."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.write(RELEASE)
            process.stdin.flush()
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            log.error("the fence keeper (%d) does not end", process.pid)

    def _ways(self) -> list[tuple[str, list[str]]]:
        """The best first. systemd-run(1) --scope becomes the program itself: same process, same descriptors."""
        code = "from livelift.cutover.keeper import main; main()"
        words = [sys.executable, "-P", "-c", code, os.fsdecode(self._directory), *self._lets_go]
        unit = f"livelift-keeper-{os.getpid()}-{time.monotonic_ns()}"
        scope = ["systemd-run", "--scope", "--quiet", "--collect", f"--unit={unit}", "--"]
        ways = [("a scope of its own", [*scope, *words])] if os.path.isdir("/run/systemd/system") else []
        return [*ways, ("the agent's own cgroup" if ways else "a session of its own", words)]

    def _started(self, words: list[str]) -> bool:
        home = os.path.dirname(os.path.dirname(os.path.abspath(livelift.__file__)))
        with open(os.path.join(self._directory, LOG), "wb", opener=lambda p, f: os.open(p, f, 0o600)) as errors:
            try:
                self._process = process = subprocess.Popen(
                    words,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    cwd="/",
                    env={**os.environ, "PYTHONPATH": os.pathsep.join([home, *filter(None, sys.path)])},
                    start_new_session=True,
                )
            except OSError as error:
                errors.write(f"{words[0]}: {error}".encode())
                return False
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        deadline = time.monotonic() + STARTING
        said = b""
        while READY not in said and process.poll() is None and time.monotonic() < deadline:
            said += process.stdout.read() or b""
            time.sleep(0.01)
        process.stdout.close()
        if READY in said:
            return True
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()
        self._process = None
        return False

    def _last_words(self) -> str:
        with open(os.path.join(self._directory, LOG), encoding="utf-8", errors="replace") as file:
            return " / ".join(file.read().strip().splitlines()[-3:])


def report(directory: bytes) -> dict[str, Any] | None:
    """What a keeper did when it found the agent gone: ``time``, ``done`` (gave back, held), ``note``, ``seconds``,
    ``problems``. None: it had nothing to do."""
    try:
        with open(os.path.join(directory, REPORT), encoding="utf-8") as file:
            found: dict[str, Any] = json.load(file)
            return found
    except (FileNotFoundError, ValueError):
        return None


# -- the process -------------------------------------------------------------------------------------------------------


def main() -> None:
    """Arguments: the state directory, then the notes with which the fence comes down."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("-1000")  # proc_pid_oom_score_adj(5)
    directory, lets_go = os.fsencode(sys.argv[1]), sys.argv[2:]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    os.write(1, READY)
    os.close(1)
    watch(0, directory, lets_go)


def watch(pipe: int, directory: bytes, lets_go: Sequence[str]) -> None:
    """Until the pipe ends; then what has to be done."""
    told = b""
    while piece := os.read(pipe, 4096):
        told += piece
    if RELEASE in told:
        return
    began = time.monotonic()
    note = _note(directory)
    if note not in lets_go:  # also one that cannot be read or understood: both serving would be worse than none
        _write(directory, {"done": "held", "note": note, "seconds": 0.0, "problems": []})
        return
    while True:
        problems = _give_back(directory)
        done = {"done": "gave back", "note": note, "seconds": round(time.monotonic() - began, 3), "problems": problems}
        _write(directory, done)
        if not problems or time.monotonic() - began > TRYING or not os.path.isdir(directory):
            return
        time.sleep(0.5)


def _note(directory: bytes) -> str:
    try:
        with open(os.path.join(directory, NOTE), encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"not readable: {error}"


def _give_back(directory: bytes) -> list[str]:
    try:
        returned = give_back(directory)
    except (LiveliftError, OSError) as error:
        return [str(error)]
    return returned.stuck + returned.left


def _write(directory: bytes, done: dict[str, Any]) -> None:
    log.info("%s", done)
    path = os.path.join(directory, REPORT)
    with suppress(OSError):
        with open(path + b".new", "w", encoding="utf-8") as file:
            json.dump({"time": time.time(), **done}, file)
        os.replace(path + b".new", path)
