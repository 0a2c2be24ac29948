"""What the controller does on a machine, over ssh: this file's text goes there through standard input.

It is run by the Python that `livelift.bootstrap.ssh` finds there, so it uses the standard library only and nothing of
the package. After the text comes one line, a JSON object with ``op`` and what that needs, and for ``place`` the agent
file. The answer is one JSON object on standard output; ``{"error": ...}`` if it could not be done. So nothing that the
operator gave, and no secret, is ever an argument of the remote shell or of a process that other users see.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO

AGENT = "livelift-agent"
CACHE = "cache"
CODE = "code"
LOG = "agent.log"
MARKS = {"source": "source.json", "target": "job.json"}
PLACED = (AGENT, AGENT + ".new", CACHE, CODE, CODE + ".new", LOG, "agent.lock", "control.sock", "identity")
"""What may be in a state directory that holds no job (yet)."""
SCRATCH = 192 << 20
"""Bytes for the agent file and what it unpacks (49 and 43 MiB), for a moment."""
STARTING = 180.0
"""Seconds for an agent to answer: the first start unpacks and compiles, on a busy machine."""


class Machine:
    """One state directory on this machine. ``side``: source or target."""

    def __init__(self, request: dict[str, Any], stream: BinaryIO) -> None:
        self.request = request
        self.stream = stream
        self.state: str = request["state"]
        self.side: str = request["side"]
        self.agent: str = request.get("agent") or os.path.join(self.state, AGENT)
        self.home = os.path.dirname(self.agent)

    # -- looking: changes nothing ------------------------------------------------------------------------------------

    def look(self) -> dict[str, Any]:
        found = self.state
        while not os.path.isdir(found):
            found = os.path.dirname(found)
        space = os.statvfs(found)
        status = self.status()
        return {
            "host": platform.node(),
            "python": platform.python_version(),
            "platform": f"cp{sys.version_info[0]}{sys.version_info[1]}-{platform.machine()}",
            "libc": platform.libc_ver(),
            "uid": os.geteuid(),
            "free": space.f_bavail * space.f_frsize,
            "systemd": os.path.isdir("/run/systemd/system") and shutil.which("systemd-run") is not None,
            "agent": self.digest() if self.request.get("hash", True) else "",
            "job": self.job(),
            "running": status is not None or self.is_held(),
            "status": status,
            "missing": [path for path in self.request["directories"] if not os.path.isdir(path)],
        }

    def digest(self) -> str:
        """SHA-256 of the agent file, or an empty string."""
        if not os.path.isfile(self.agent):
            return ""
        with open(self.agent, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def job(self) -> str:
        """The id of the job that is kept here, or an empty string."""
        try:
            with open(os.path.join(self.state, MARKS[self.side]), encoding="utf-8") as file:
                found = json.load(file)
        except FileNotFoundError:
            return ""
        return str(found.get("job") or found.get("id") or "")

    def status(self) -> dict[str, Any] | None:
        return self.knock("status")

    def knock(self, verb: str) -> dict[str, Any] | None:
        """What the agent answers at its door. None: nobody does."""
        try:
            here = os.open(self.state, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return None
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
            door.settimeout(30)
            try:
                door.connect(f"/proc/self/fd/{here}/control.sock")  # sun_path holds 107 bytes (unix(7))
            except OSError:
                return None
            finally:
                os.close(here)
            with door.makefile("rwb") as lines:
                lines.write(json.dumps({"verb": verb}).encode() + b"\n")
                lines.flush()
                answer = json.loads(lines.readline() or b"null")
        return answer if isinstance(answer, dict) else None

    def is_held(self) -> bool:
        """Whether a process holds the state directory (as `livelift.control.lock` does)."""
        try:
            fd = os.open(os.path.join(self.state, "agent.lock"), os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    # -- doing -------------------------------------------------------------------------------------------------------

    def own(self) -> None:
        """The state directory, and that of the agent file, for this user alone: what lies in them is executed."""
        os.makedirs(os.path.dirname(self.home), exist_ok=True)
        for path in dict.fromkeys([self.home, self.state]):
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)
            found = os.lstat(path)
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
                raise PermissionError(f"{path} is not a directory that only this user can write")

    def place(self) -> dict[str, Any]:
        """The agent file, from the stream. Whole and right, or not there."""
        self.own()
        left, digest = self.request["size"], hashlib.sha256()
        fresh = self.agent + ".new"
        with suppress(FileNotFoundError):
            os.unlink(fresh)
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o700), "wb") as file:
            while left:
                piece = self.stream.read(min(left, 1 << 20))
                if not piece:
                    raise EOFError("the agent file broke off")
                digest.update(piece)
                file.write(piece)
                left -= len(piece)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != self.request["digest"]:
            raise OSError("the agent file did not arrive whole")
        os.replace(fresh, self.agent)
        return {"placed": self.agent}

    def start(self) -> dict[str, Any]:
        """The agent, so that it outlives this connection. Its status, or its last words."""
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self.state, CODE))  # of an earlier start
        words = [self.agent, self.side, "--state", self.state, *self.request["arguments"]]
        if self.request.get("unit_text"):
            tail = self.by_unit()
        else:
            tail = self.by_systemd(words) if self.request["systemd"] else self.by_itself(words)
        deadline = time.monotonic() + STARTING
        for said in tail:
            status = self.status()
            if status is not None and (self.side == "source" or status.get("paired") or self.code()["code"]):
                return {"status": status}
            if said is not None:
                return {"error": f"the {self.side} agent ended: {said}"}
            if time.monotonic() > deadline:
                return {"error": f"the {self.side} agent does not answer after {STARTING:.0f} s"}
            time.sleep(0.2)
        raise AssertionError("unreachable")

    def stop(self) -> dict[str, Any]:
        """End the agent in order, and wait until it has let go of its state directory."""
        self.knock("stop")
        deadline = time.monotonic() + STARTING
        while self.is_held():
            if time.monotonic() > deadline:
                return {"error": f"the {self.side} agent does not end"}
            time.sleep(0.2)
        return {"stopped": True}

    def by_systemd(self, words: list[str]) -> Iterator[str | None]:
        """None while the unit runs, then its last words. Its own unit: not in the cgroup of the ssh session. An agent
        that was killed is started again and goes on; one that ended with an error has said what is to be done."""
        unit = self.request["unit"]
        settings = ["--property=Restart=on-abnormal", "--property=RestartSec=2"]
        settings += [f"--setenv={name}={value}" for name, value in self.environment().items()]
        subprocess.run(["systemctl", "reset-failed", unit], capture_output=True, check=False)
        yield from self.watch(["systemd-run", f"--unit={unit}", "--collect", "--quiet", *settings, "--", *words])

    def by_unit(self) -> Iterator[str | None]:
        """The same by a unit file, which is started again after a reboot."""
        self.unit()
        yield from self.watch(["systemctl", "start", self.request["unit"]])

    def unit(self) -> dict[str, Any]:
        """Write the unit file, whole or not at all, and have it started at every boot."""
        name = self.request["unit"]
        path = f"/etc/systemd/system/{name}"
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(self.request["unit_text"])
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{path}.new", path)
        for words in (["daemon-reload"], ["enable", "--quiet", name]):
            done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
            if done.returncode:
                raise OSError(f"systemctl {' '.join(words)}: {done.stderr.strip()}")
        return {"unit": path}

    def watch(self, command: list[str]) -> Iterator[str | None]:
        unit = self.request["unit"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        while done.returncode == 0:
            active = subprocess.run(["systemctl", "is-active", unit], capture_output=True, text=True, check=False)
            if active.stdout.strip() not in ("active", "activating", "reloading"):
                break
            yield None
        said = subprocess.run(
            ["journalctl", "--unit", unit, "--lines=12", "--output=cat", "--no-pager"], capture_output=True, text=True
        )
        while True:
            yield done.stderr.strip() or said.stdout.strip() or "it said nothing"

    def by_itself(self, words: list[str]) -> Iterator[str | None]:
        """In a session of its own (setsid(2)), without anything of ours but the log."""
        path = os.path.join(self.state, LOG)
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "rb+") as log:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={**os.environ, **self.environment()},
                start_new_session=True,
            )
        while process.poll() is None:
            yield None
        with open(path, encoding="utf-8", errors="replace") as text:
            said = text.read()[-2000:].strip()
        while True:
            yield said or f"it said nothing, exit code {process.returncode}"

    def environment(self) -> dict[str, str]:
        return {"LIVELIFT_CACHE": os.path.join(self.home, CACHE), "LIVELIFT_PYTHON": sys.executable}

    def code(self) -> dict[str, Any]:
        """The pairing code that the target agent has written, or an empty string."""
        try:
            with open(os.path.join(self.state, CODE), encoding="ascii") as file:
                return {"code": file.read().strip()}
        except FileNotFoundError:
            return {"code": ""}

    def run(self) -> dict[str, Any]:
        """Become the agent's command line; ``text`` is its standard input."""
        if not os.path.exists(self.agent):
            raise FileNotFoundError(f"{self.agent} is not there")
        text = os.memfd_create("text")
        os.write(text, self.request["text"].encode())
        os.lseek(text, 0, os.SEEK_SET)
        os.dup2(text, 0)
        words = [self.agent, *self.request["arguments"]]
        words += [] if self.request.get("stateless") else ["--state", self.state]
        os.execve(self.agent, words, {**os.environ, **self.environment()})

    def attempt(self) -> dict[str, Any]:
        """The agent's command line from the stream's agent file, which is gone afterwards with all that it unpacked:
        several lists of ``arguments``; what each said."""
        for place in ("/dev/shm", "/var/tmp"):  # memory, if there is enough of it
            if os.path.isdir(place) and os.statvfs(place).f_bavail * os.statvfs(place).f_frsize > SCRATCH:
                break
        scratch = tempfile.mkdtemp(prefix="livelift-", dir=place)
        try:
            self.state = self.home = scratch
            self.agent = os.path.join(scratch, AGENT)
            self.place()
            environment = {**os.environ, **self.environment()}
            said = []
            for words in self.request["arguments"]:
                done = subprocess.run(
                    ["/bin/sh", self.agent, *words],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    env=environment,
                    check=False,
                )
                said.append({"code": done.returncode, "stdout": done.stdout, "stderr": done.stderr})
            return {"said": said}
        finally:
            shutil.rmtree(scratch)

    def sweep(self) -> dict[str, Any]:
        """What was placed for a job that is not there (any more). Refused while there is one."""
        if os.path.isdir(self.state) and (self.job() or self.is_held()):
            raise OSError(f"{self.state} holds a job")
        for directory in dict.fromkeys([self.state, self.home]):
            if not os.path.isdir(directory):
                continue
            for name in PLACED:
                path = os.path.join(directory, name)
                if os.path.isdir(path) and not os.path.islink(path):
                    shutil.rmtree(path)
                else:
                    with suppress(FileNotFoundError):
                        os.unlink(path)
            if left := sorted(os.listdir(directory)):
                return {"left": [os.path.join(directory, name) for name in left]}
            os.rmdir(directory)
        above = os.path.dirname(self.state)
        if os.path.basename(above) == "livelift":  # ours, when nothing else is in it
            with suppress(OSError):
                os.rmdir(above)
        return {"left": []}


def main() -> None:
    """One request. Every trouble is told in the answer."""
    stream = sys.stdin.buffer
    machine = Machine(json.loads(stream.readline()), stream)
    try:
        answer: dict[str, Any] = {name: getattr(machine, name) for name in OPERATIONS}[machine.request["op"]]()
    except (OSError, EOFError, ValueError) as error:
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


OPERATIONS = ("look", "place", "start", "unit", "stop", "code", "run", "attempt", "sweep")

if __name__ == "__main__":
    main()
