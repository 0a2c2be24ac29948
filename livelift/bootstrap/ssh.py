"""One machine over the system's ssh client: one connection, shared by all that is asked of it (ssh_config(5),
ControlMaster).

No command is ever built from data: the remote shell gets the same constant text each time (`command`), which finds a
Python and has it run `livelift.bootstrap.remote` from standard input. The master's remote end is a ``cat`` whose
standard input the controller holds, so the connection ends with the controller, however that ends.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import IO, Any, Final

from livelift.errors import PreflightError, UnreachableError, UsageError

NO_PYTHON: Final = 69  # EX_UNAVAILABLE, sysexits.h
LOST: Final = 255  # ssh(1): "exits with the exit status of the remote command or with 255 if an error occurred"
CONNECT: Final = 90.0
"""Seconds for a connection, with its own time-outs of name look-up and key exchange."""
_SHELL: Final = (
    "exec {sudo}/bin/sh -c 'for p in python3 python3.13 python3.12 python3.11 /usr/local/bin/python3; do "
    '"$p" -I -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" 2>/dev/null && '
    'exec "$p" -I -c "import sys; b = sys.stdin.buffer; exec(b.read(int(b.readline())))"; done; exit 69\''
)


def command(sudo: bool) -> str:
    """What the remote shell is given. Constant, and the same for sh, bash, zsh, csh and fish."""
    return _SHELL.format(sudo="sudo -n " if sudo else "")


class Remote:
    """``destination``: as ssh takes it. ``control``: a directory of the controller's own, with a short path.
    ``options``: words for ``-o``. Threads may not share one."""

    def __init__(
        self,
        side: str,
        destination: str,
        state: str,
        control: Path,
        options: Sequence[str] = (),
        config: str = "",
        sudo: bool = False,
        agent: str = "",
    ) -> None:
        if (
            not destination
            or destination.startswith("-")
            or any(c.isspace() or not c.isprintable() for c in destination)
        ):
            raise UsageError(
                f"{destination!r} is not USER@HOST", remedy="as for ssh: root@server or ssh://root@server:22"
            )
        self.side = side
        self.destination = destination
        self.state = state
        self.agent = agent or f"{state}/livelift-agent"
        self._socket = control / side
        self._config = ["-F", config] if config else []
        self._options = [word for option in options for word in ("-o", option)]
        self._command = command(sudo)
        self._master: subprocess.Popen[bytes] | None = None

    def __str__(self) -> str:
        return f"{self.side} {self.destination}"

    # -- the connection ----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """UnreachableError with what ssh says."""
        if self._master is not None and self._master.poll() is None:
            return
        words = [
            *self._ssh("yes"),
            "-o",
            "ConnectTimeout=20",
            "-o",
            "ServerAliveInterval=15",
            "-o",
            "ServerAliveCountMax=4",
        ]
        trouble = self._socket.with_suffix(".err")
        with trouble.open("wb") as errors:
            self._master = subprocess.Popen(
                [*words, "--", self.destination, "exec cat"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C ends the controller in order, not the connection below it
            )
        timer = threading.Timer(CONNECT, self._master.kill)
        timer.start()
        try:
            assert self._master.stdin is not None and self._master.stdout is not None
            with suppress(BrokenPipeError):
                self._master.stdin.write(b"ready\n")
                self._master.stdin.flush()
            said = self._master.stdout.readline()
        finally:
            timer.cancel()
        if said != b"ready\n":
            self.close()
            text = trouble.read_text(errors="replace").strip().splitlines()
            greeting = f"; instead of the connection came {said[:100]!r}" if said else ""
            raise UnreachableError(
                f"{self}: {text[-1] if text else 'ssh ended'}{greeting}",
                remedy=f"make this work without a question: ssh {self.destination} true",
            )

    def close(self) -> None:
        if self._master is None:
            return
        assert self._master.stdin is not None and self._master.stdout is not None
        with suppress(BrokenPipeError):
            self._master.stdin.close()
        try:
            self._master.wait(5)
        except subprocess.TimeoutExpired:
            self._master.kill()
            self._master.wait()
        self._master.stdout.close()
        self._master = None

    def hostname(self) -> str:
        """The name or address that ssh connects to, after its configuration (ssh -G)."""
        done = subprocess.run(
            ["ssh", "-G", *self._config, *self._options, "--", self.destination],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        for line in done.stdout.splitlines():
            key, _, value = line.partition(" ")
            if key == "hostname":
                return value
        raise UsageError(f"{self.destination}: {done.stderr.strip()}", remedy="as for ssh: root@server")

    def _ssh(self, master: str) -> list[str]:
        """The first value that ssh gets for an option counts: ours, then the operator's, then the configuration's."""
        ours = ["BatchMode=yes", f"ControlMaster={master}", "ControlPersist=no", "ForwardAgent=no", "ForwardX11=no"]
        ours += ["ClearAllForwardings=yes", "RemoteCommand=none"]
        words = ["ssh", "-T", *self._config, "-S", str(self._socket)]
        return [*words, *(word for option in ours for word in ("-o", option)), *self._options]

    # -- questions ---------------------------------------------------------------------------------------------------

    def ask(self, op: str, payload: Path | None = None, **parameters: Any) -> dict[str, Any]:
        """One operation of `livelift.bootstrap.remote`. UnreachableError: the connection; PreflightError: no Python
        there; UsageError: it could not be done, with what the machine says."""
        process = self._begin({"op": op, **parameters}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, payload=payload)
        out, err = process.communicate()
        self._check(process.returncode, err.decode(errors="replace"))
        try:
            answer: dict[str, Any] = json.loads(out)
        except ValueError as error:
            raise UnreachableError(
                f"{self}: an answer that is none: {out[:200]!r} {err[-300:]!r}",
                remedy="does the login shell of that user print something? It must not when it is not interactive",
            ) from error
        if "error" in answer:
            raise UsageError(f"{self}: {answer['error']}", remedy="mend that on the machine, then run this again")
        return answer

    def run(
        self, arguments: Sequence[str], text: str = "", stateless: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """The agent's command line there, to its end. Exit codes are the agent's. ``stateless``: of a verb that takes
        no state directory."""
        request = {"op": "run", "arguments": list(arguments), "text": text, "stateless": stateless}
        process = self._begin(request, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate()
        self._check(process.returncode, err.decode(errors="replace"))
        return subprocess.CompletedProcess(
            list(arguments), process.returncode, out.decode(errors="replace"), err.decode(errors="replace")
        )

    def stream(self, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        """The same, as a process whose standard output is read meanwhile; errors go where ours go."""
        return self._begin({"op": "run", "arguments": list(arguments), "text": ""}, stdout=subprocess.PIPE, stderr=None)

    def forward(self, arguments: Sequence[str], text: str = "") -> int:
        """The same, with our standard output and errors; the exit code."""
        process = self._begin({"op": "run", "arguments": list(arguments), "text": text}, stdout=None, stderr=None)
        self._check(process.wait(), "")
        return process.returncode

    def _check(self, code: int, said: str) -> None:
        if code == NO_PYTHON:
            raise PreflightError(
                f"{self}: no CPython 3.11, 3.12 or 3.13",
                remedy="install one there (Debian, Ubuntu: python3; RHEL 8, 9: python3.11)",
            )
        if code == LOST:
            raise UnreachableError(
                f"{self}: {(said.strip().splitlines() or ['the connection broke'])[-1]}",
                remedy="the agents go on by themselves; run the same command again",
            )

    def _begin(
        self, request: dict[str, Any], stdout: int | None, stderr: int | None, payload: Path | None = None
    ) -> subprocess.Popen[bytes]:
        self.open()
        code = files("livelift.bootstrap").joinpath("remote.py").read_bytes()
        line = json.dumps({**request, "state": self.state, "side": self.side, "agent": self.agent}).encode()
        process = subprocess.Popen(
            [*self._ssh("no"), "--", self.destination, self._command],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
        )
        assert process.stdin is not None
        try:
            process.stdin.write(b"%d\n%s%s\n" % (len(code), code, line))
            if payload is not None:
                _pour(payload, process.stdin)
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: its exit code tells
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.stdin = None  # communicate() would flush it
        return process


def _pour(path: Path, into: IO[bytes]) -> None:
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            into.write(piece)
