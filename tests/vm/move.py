"""The command line that moves the server, from this host, as an operator types it. Only this file knows its words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from livelift.bootstrap import build
from tests.vm.machine import Machine, write_config

ROOT: Final = Path(__file__).resolve().parents[2]
PYTHONS: Final = {"bookworm": "cp311-x86_64", "trixie": "cp313-x86_64"}


def agent_file(directory: Path) -> Path:
    """For all machines, from the locked wheels (`make agent` makes the same for more Pythons)."""
    out, wheels = directory / "livelift-agent", ROOT / "build/agent-wheels"
    if not out.exists():
        build.download(ROOT / ".ci/agent-wheels.txt", wheels, list(PYTHONS.values()))
        build.build(ROOT / "livelift", wheels, out, list(PYTHONS.values()))
    return out


class Move:
    """``home``: the machines' (`Machine.home`). ``directory``: the controller's files and what it printed."""

    def __init__(self, home: Path, directory: Path, job: str = "vm") -> None:
        self.job = job
        self.home = home
        self.directory = directory
        self.agent = agent_file(directory)
        self.took: dict[str, float] = {}  # seconds of each verb

    def run(self, *words: str, timeout: float = 3600, check: bool = True) -> subprocess.CompletedProcess[str]:
        """``livelift WORDS``; AssertionError with what it said. Its output is kept in the directory."""
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "livelift", *words], cwd=ROOT, timeout=timeout, text=True, check=False,
            stdin=subprocess.DEVNULL, capture_output=True,
            env={**os.environ, "LIVELIFT_JOBS": str(self.directory / "jobs")},
        )  # fmt: skip
        self.took[words[0]] = round(time.monotonic() - began, 1)
        with (self.directory / "livelift.log").open("a") as log:
            log.write(f"$ livelift {' '.join(words)}\n{done.stdout}{done.stderr}exit {done.returncode}\n")
        said = done.stdout[-3000:] + done.stderr[-3000:]
        assert not check or done.returncode == 0, f"livelift {' '.join(words)}: {said}"
        return done

    def started(self, *words: str) -> subprocess.Popen[str]:
        """``livelift WORDS``, while other things happen."""
        with (self.directory / f"{words[0]}.log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "livelift", *words], cwd=ROOT, text=True, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, env={**os.environ, "LIVELIFT_JOBS": str(self.directory / "jobs")},
            )  # fmt: skip

    # -- the verbs of a server job -----------------------------------------------------------------------------------

    def migrate_words(self, *more: str) -> list[str]:
        """``migrate`` of a whole server, until "ready"."""
        target = Machine("target", self.home)
        return [
            "migrate", "root@source", "root@target", f"--job={self.job}", f"--ssh-config={write_config(self.home)}",
            f"--address={target.profile.address}", f"--agent={self.agent}", "--json",
            "--ssh-option=ConnectTimeout=60", *more,
        ]  # fmt: skip

    def migrate(self, *more: str, timeout: float = 1800) -> None:
        self.run(*self.migrate_words(*more), timeout=timeout)

    def cutover(self, *more: str, check: bool = True) -> list[dict[str, Any]]:
        """Its events, one for each step."""
        done = self.run("cutover", f"--job={self.job}", "--json", *more, check=check)
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def commit(self) -> None:
        self.run("commit", f"--job={self.job}")

    def rollback(self, *more: str) -> None:
        self.run("rollback", f"--job={self.job}", *more)

    def remove(self, *more: str) -> None:
        self.run("remove", f"--job={self.job}", *more)

    def status(self, side: str = "source") -> dict[str, Any]:
        done = self.run("status", f"--job={self.job}", f"--side={side}", "--json", timeout=120)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def wait_copying(self, seconds: float) -> None:
        """Until the initial copy that `migrate` began has brought over the first files. The log of that command
        is read: every question over ssh takes a second of an emulated processor."""
        end = time.monotonic() + seconds
        while not any(event.get("status", {}).get("files") for event in self.events("migrate")):
            assert time.monotonic() < end, f"the initial copy has not begun: {self.events('migrate')[-3:]}"
            time.sleep(1)

    def events(self, verb: str) -> list[dict[str, Any]]:
        """What a command that was `started` with --json has said until now."""
        lines = (self.directory / f"{verb}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
