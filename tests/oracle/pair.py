"""Two real agents as processes on this machine, for the system tests: started, asked, killed, restarted, cleaned up.

    with LivePair([(source, target)], work) as pair:
        pair.wait_following()
        ...
        pair.cutover()

What the harness relies on is the command line and nothing else: ``target`` prints ``{"event": "pairing", "code": ...,
"port": ...}`` among its JSON lines; ``status --json`` prints one JSON object with the keys of `Status`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from livelift.control.client import ask
from livelift.errors import LiveliftError
from tests.oracle.proxy import TcpProxy
from tests.oracle.slow import SLOW
from tests.oracle.wellformed import faults

ROOT = Path(__file__).resolve().parents[2]
LIVELIFT = (sys.executable, "-m", "livelift")

Side = Literal["source", "target"]


class Status(NamedTuple):
    """The part of ``livelift status --json`` that tests use. ``raw`` is all of it."""

    state: str
    initial_percent: float
    backlog: int
    durable: bool
    gaps: int
    raw: dict[str, Any]

    @property
    def caught_up(self) -> bool:
        return self.initial_percent >= 100 and self.backlog == 0 and self.durable and self.gaps == 0


def _status(raw: dict[str, Any]) -> Status:
    return Status(raw["state"], raw["initial_percent"], raw["backlog"], raw["durable"], raw["gaps"], raw)


def environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def why_unavailable() -> str:
    """Why no agents can be started from this checkout, or an empty string."""
    for verb in ("source", "target", "status", "cutover"):
        command = [*LIVELIFT, verb, "--help"]
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, check=False, timeout=30 * SLOW
        )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            return f"`livelift {verb}` does not run here: {last}"
    return ""


class Agent:
    """One agent process. Its output goes to files, so that killing it loses nothing and blocks nothing."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        log: Path,
        prefix: Sequence[str] = (),
        program: Sequence[str] = LIVELIFT,
    ) -> None:
        self.name = name
        self.log = log
        self.command = [*prefix, *program, *arguments]
        self._start = log.stat().st_size if log.exists() else 0
        with log.open("ab") as out, log.with_suffix(".stderr").open("ab") as err:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment(),
                start_new_session=True,
            )

    def events(self) -> list[dict[str, Any]]:
        """The whole JSON lines that this process has printed so far."""
        with self.log.open("rb") as file:
            file.seek(self._start)
            lines = file.read().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith(b"\n") and line.startswith(b"{")]

    def wait_event(self, wanted: Callable[[dict[str, Any]], bool], timeout: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        while True:
            for event in self.events():
                if wanted(event):
                    return event
            self.check_alive()
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name}: the awaited event did not come in {timeout} s\n{self.tail()}")
            time.sleep(0.05)

    def check_alive(self) -> None:
        if self.process.poll() is not None:
            raise AssertionError(
                f"{self.name} ended with {self.process.returncode}: {' '.join(self.command)}\n{self.tail()}"
            )

    def tail(self) -> str:
        """The end of what it said, for the message of a failed test."""
        parts = []
        for path in (self.log, self.log.with_suffix(".stderr")):
            text = path.read_text(errors="replace") if path.exists() else ""
            parts.append(f"--- {path.name}\n{text[-3000:]}")
        return "\n".join(parts)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        """SIGTERM, five seconds, then SIGKILL to whatever is left of its process group."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


class LivePair:
    """A source and a target agent with one job. ``maps``: (source directory, target directory) pairs, absolute.

    ``work`` receives both state directories (but for a given ``source_state``) and all output. With ``proxy`` the link
    goes through a `TcpProxy` that the test can cut and whose byte counters do not depend on what the agents say.
    ``prefix`` goes before each command (a program that puts itself into a cgroup and executes the rest);
    ``source_program`` stands for Livelift on the source's side.
    """

    def __init__(
        self,
        maps: Sequence[tuple[Path, Path]],
        work: Path,
        *,
        capture: str | None = None,
        proxy: bool = False,
        source_arguments: Sequence[str] = (),
        target_arguments: Sequence[str] = (),
        prefix: Sequence[str] = (),
        source_state: Path | None = None,
        source_program: Sequence[str] | None = None,
    ) -> None:
        self.maps = [argument for source, target in maps for argument in ("--map", f"{source}={target}")]
        source_state = source_state or work / "source-state"
        self.states: dict[Side, Path] = {"source": source_state, "target": work / "target-state"}
        self.work = work
        self.proxy: TcpProxy | None = None
        self._with_proxy = proxy
        self._capture = ["--capture", capture] if capture else []
        self._extra: dict[Side, list[str]] = {"source": list(source_arguments), "target": list(target_arguments)}
        self._prefix = prefix
        self._program = {"source": source_program or LIVELIFT, "target": LIVELIFT}
        self._pairing: dict[str, Any] = {}
        self._starts = 0
        self.agents: dict[Side, Agent] = {}
        for state in self.states.values():
            state.mkdir(mode=0o700, parents=True)

    def __enter__(self) -> LivePair:
        try:
            self.start_target()
            self.start_source()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()
        index = self.states["source"] / "index.sqlite"
        if kind is None and index.exists():  # not beside a failure, which would be hidden
            assert (found := faults(index)) == [], f"{index}: {found[:10]}"

    def start_target(self) -> None:
        self._spawn("target", ["--listen", "127.0.0.1:0", *self.maps])
        self._pairing = self.agents["target"].wait_event(lambda event: event.get("event") == "pairing", 20 * SLOW)
        if self._with_proxy:
            self.proxy = TcpProxy(("127.0.0.1", int(self._pairing["port"])))

    def start_source(self) -> None:
        """Returns when the pairing is done and the capture attached: from here on a kill leaves a job that resumes."""
        port = self.proxy.port if self.proxy else self._pairing["port"]
        self._spawn("source", ["--pair", self._pairing["code"], f"127.0.0.1:{port}", *self.maps])
        self.agents["source"].wait_event(lambda event: event.get("event") == "started", 30 * SLOW)

    def _spawn(self, side: Side, arguments: Sequence[str]) -> Agent:
        capture = self._capture if side == "source" else []
        state = ["--state", str(self.states[side])]
        log = self.work / f"{side}-{self._starts}.json"
        self._starts += 1
        words = [side, *arguments, *state, "--json", *capture, *self._extra[side]]
        agent = Agent(side, words, log, self._prefix, self._program[side])
        self.agents[side] = agent
        return agent

    def status(self, side: Side = "source") -> Status | None:
        """The agent's own account, or None while it does not answer (starting, killed)."""
        done = self._ask("status", side, timeout=20)
        if done.returncode != 0:
            return None
        return _status(json.loads(done.stdout))

    def look(self) -> Status | None:
        """The source's status from its control socket, without a process for each question: for loops that wait."""
        try:
            return _status(ask(os.fsencode(self.states["source"]), "status", 10))
        except (LiveliftError, OSError):
            return None  # starting, or just killed

    def wait_following(self, timeout: float = 100, interval: float = 0.1) -> Status:
        """Until the base copy is complete and everything captured so far is applied and durable on the target."""
        return self.wait(lambda status: status.state == "following" and status.caught_up, timeout, interval)

    def wait(self, wanted: Callable[[Status], bool], timeout: float, interval: float = 0.1) -> Status:
        deadline = time.monotonic() + timeout * SLOW
        status = None
        while time.monotonic() < deadline:
            for agent in self.agents.values():
                agent.check_alive()
            status = self.look()
            if status is not None and wanted(status):
                return status
            time.sleep(interval)
        raise AssertionError(f"not reached in {timeout * SLOW} s; last status: {status and status.raw}\n{self.tail()}")

    def cutover(self, timeout: float = 60) -> dict[str, Any]:
        """Fence, drain, verify, cut; the report. The test's own writers have stopped: no cgroup is given to freeze."""
        try:
            done = self._ask("cutover", "source", timeout)
        except subprocess.TimeoutExpired as late:
            status = self.look()
            raise AssertionError(
                f"cutover: not over after {late.timeout} s: {status and status.raw}\n{self.gaps()}\n{self.tail()}"
            ) from None
        assert done.returncode == 0, f"cutover: exit {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.tail()}"
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        report: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        print(self.gaps())  # for `pytest -s`: what had to be read again on the way
        return report

    def gaps(self) -> str:
        """What the source has said of gaps so far, also of those that have closed."""
        said = self.agents["source"].log.with_suffix(".stderr").read_text(errors="replace").splitlines()
        found = [line for line in said if "gap: " in line or "resync of " in line]
        return "\n".join([f"{len(found)} words about gaps", *found])

    def cut(self, to: Path | None = None, timeout: float = 120) -> dict[str, Any]:
        """A position without the fence, and a copy of it; the report. Without a process: the loops that cut often."""
        return ask(os.fsencode(self.states["source"]), "cut", timeout + 30, to=str(to or ""), timeout=timeout)

    def _ask(self, verb: str, side: Side, timeout: float) -> subprocess.CompletedProcess[str]:
        command = [*LIVELIFT, verb, "--state", str(self.states[side]), "--json"]
        limit = timeout * SLOW
        return subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=limit)

    def kill9(self, side: Side) -> None:
        self.agents[side].kill()

    def restart(self, side: Side) -> None:
        """Start a stopped agent again from its state directory (a target: on the port that the source knows)."""
        assert self.agents[side].process.poll() is not None, f"the {side} still runs"
        self._spawn(side, ["--listen", f"127.0.0.1:{self._pairing['port']}"] if side == "target" else [])

    def tail(self) -> str:
        return "\n".join(f"=== {side} ===\n{agent.tail()}" for side, agent in self.agents.items())

    def close(self) -> None:
        for agent in self.agents.values():
            agent.stop()
        if self.proxy is not None:
            self.proxy.close()
