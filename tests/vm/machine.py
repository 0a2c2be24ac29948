"""One virtual machine: power, ssh, copies, waiting for a boot, its link, its serial log.

A machine has a role for a name (``source``, ``target``) and lives in a directory of the home (`places.home`) with that
name, so a command line and a test can work on it in turn: nothing is kept in memory.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from tests.vm import image, places
from tests.vm.places import VmError, run, strings
from tests.vm.profiles import PROFILES, Profile
from tests.vm.qemu import hardware, monitor, network
from tests.vm.serial import Serial

ROLES: Final = ("source", "target")
GUEST_PORTS: Final = (22, 80, 5432)
"""What a host port leads to: ssh, nginx, PostgreSQL."""
BOOT: Final = 600.0
"""Seconds within which ssh answers after a start; 25 on an idle machine of two cores, 100 beside three others."""


class Machine:
    def __init__(self, name: str, home: Path | None = None) -> None:
        if name not in ROLES:
            raise VmError(f"no machine called {name}; there are {' and '.join(ROLES)}")
        self.name = name
        self.home = home or places.home()
        self.dir = self.home / name
        self.disk = self.dir / "disk.qcow2"

    # -- what is known of it, over all processes ---------------------------------------------------------------------

    @property
    def facts(self) -> dict[str, Any]:
        """profile, suite, ports {guest: host}, offset (in the serial log), since (epoch), boot_id, boot_seconds."""
        try:
            found: dict[str, Any] = json.loads((self.dir / "facts.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    def note(self, **facts: Any) -> None:
        new = self.dir / "facts.new"
        new.write_text(json.dumps({**self.facts, **facts}))
        new.replace(self.dir / "facts.json")

    @property
    def profile(self) -> Profile:
        return PROFILES[self.facts.get("profile", self.name)]

    @property
    def serial(self) -> Serial:
        return Serial(self.dir / "serial.log", self.facts.get("offset", 0))

    def port(self, guest: int) -> int:
        """The port of 127.0.0.1 that leads to the guest's."""
        return int(self.facts["ports"][str(guest)])

    def pid(self) -> int | None:
        """Of its QEMU, if that runs."""
        try:
            pid = int((self.dir / "pid").read_text())
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if b"qemu-system" in line and os.fsencode(self.dir) in line else None

    def cpu(self) -> float:
        """Seconds of processor that its QEMU has had since it was started: what does not depend on what else runs."""
        fields = Path(f"/proc/{self.pid()}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # -- power -------------------------------------------------------------------------------------------------------

    def up(self, profile: str = "", suite: str = "bookworm", keep: bool = False, saved: str = "") -> None:
        """Start it from a fresh overlay of its image. ``keep``: from the disk that it had. ``saved``: go on from a
        state that `save` made, which implies ``keep``. Does not wait."""
        if self.pid():
            raise VmError(f"{self.name} runs already")
        keep = keep or bool(saved)
        if keep and not self.disk.exists():
            raise VmError(f"{self.name} has no disk to keep")
        name = self.facts["profile"] if keep else profile or self.name
        if name not in PROFILES or PROFILES[name].role != self.name:
            fitting = ", ".join(name for name, profile in PROFILES.items() if profile.role == self.name)
            raise VmError(f"no profile {name} for the {self.name}; there are {fitting}")
        sealed = None if keep else image.build([name], suite)[name]
        self.dir.mkdir(parents=True, exist_ok=True)
        if len(os.fsencode(self.dir)) > 85:
            raise VmError(f"{self.dir} is too long for sockets in it: name a shorter LIVELIFT_VM_HOME")
        ports = self.facts.get("ports") or dict(zip(map(str, GUEST_PORTS), _free(len(GUEST_PORTS)), strict=True))
        self.note(profile=name, suite=suite if not keep else self.facts["suite"], ports=ports)
        if sealed:
            self._fresh(sealed)
        self.mark()
        words = hardware(self.profile, self.disk, "qcow2", self.dir / "serial.log", self.dir)
        words += network(self.profile, {int(there): here for there, here in ports.items()}, self.home)
        words += ["-daemonize", "-pidfile", self.dir / "pid", *(["-loadvm", saved] if saved else [])]
        with (self.dir / "qemu.log").open("wb") as out:
            done = subprocess.run(list(strings(words)), stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False)
        if done.returncode:
            self.note(ports=None)  # perhaps somebody has taken one of them: others the next time
            raise VmError(f"QEMU did not start: {(self.dir / 'qemu.log').read_text(errors='replace')}")
        write_config(self.home)

    def _fresh(self, sealed: Path) -> None:
        self.disk.unlink(missing_ok=True)
        (self.dir / "efivars.fd").unlink(missing_ok=True)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", sealed, self.disk)
        if PROFILES[self.facts["profile"]].uefi:
            (self.dir / "efivars.fd").write_bytes(sealed.with_suffix(".fd").read_bytes())

    def mark(self) -> None:
        """The next boot begins here in the serial log, and now. Say it before the guest reboots itself, then
        `wait(new=True)`."""
        self.note(offset=self.serial.size(), since=time.time())

    def cut_power(self) -> None:
        """At once: QEMU is killed. What the guest had not yet written to its disk is gone."""
        pid = self.pid()
        if pid is None:
            raise VmError(f"{self.name} does not run")
        os.kill(pid, signal.SIGKILL)
        _gone(pid, 10)
        self.hang_up()

    def cut_power_at(self, pattern: str, timeout: float = BOOT, later: float = 0) -> str:
        """As soon as the serial log holds a match of the expression (after the last `mark` or start), or that many
        seconds later; the match."""
        found = self.serial.wait(pattern, timeout, lambda: self.pid() is not None)
        if found is None:
            raise VmError(f"{self.name} never said {pattern!r}:\n{self.serial.tail()}")
        time.sleep(later)
        self.cut_power()
        return found

    def reset(self) -> None:
        """The reset button. Does not wait."""
        self.hang_up()
        self.mark()
        self.monitor("system_reset")

    def reboot(self) -> None:
        """In order, from inside. Does not wait."""
        self.mark()
        self.ssh("systemd-run --quiet --no-block systemctl reboot")
        self.hang_up()

    def down(self, hard: bool = False) -> None:
        """In order, or at once (``hard``, or when 90 s were not enough). Its disk stays."""
        pid = self.pid()
        if pid and not hard:
            self.ssh("systemctl poweroff", check=False, timeout=20)
            if not _gone(pid, 90):
                print(f"{self.name} did not power off; ending it", file=sys.stderr)
        self.hang_up()
        if pid and self.pid() == pid:
            os.kill(pid, signal.SIGTERM)
            if not _gone(pid, 10):
                os.kill(pid, signal.SIGKILL)
                _gone(pid, 10)
        (self.dir / "pid").unlink(missing_ok=True)

    def save(self, tag: str) -> None:
        """Keep memory and disk as they are now under a name; the machine goes on. Not for NVMe (QEMU cannot)."""
        self._told(f"savevm {tag}")

    def load(self, tag: str, wait: bool = True) -> None:
        """Back to what `save` kept; starts the machine if it is off. Its clock is set. ``wait``: ssh answered then."""
        self.hang_up()
        if self.pid():
            self.mark()
            self._told(f"loadvm {tag}")
        else:
            self.up(saved=tag)
        self.monitor("cont")  # it stood still while it was saved
        if not wait:
            return
        self.wait()
        self.ssh(f"date -u -s @{time.time():.0f} >/dev/null")

    def monitor(self, command: str) -> str:
        return monitor(self.dir / "monitor.sock", command)

    def _told(self, command: str) -> None:
        if said := self.monitor(command).strip():
            raise VmError(f"{self.name}: {command}: {said}")

    # -- the link between the two ------------------------------------------------------------------------------------

    def link(self, plugged: bool) -> None:
        """Pull this machine's plug from the link, or put it back. The guest sees that the carrier is gone."""
        self._told(f"set_link nic-link {'on' if plugged else 'off'}")

    # -- its inside --------------------------------------------------------------------------------------------------

    def _ssh_options(self) -> list[str]:
        return [
            "-F", "none", "-i", str(places.key()), "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no",
            "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes",
            "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3",
            "-o", "ControlMaster=auto", "-o", f"ControlPath={self.dir}/ssh.sock", "-o", "ControlPersist=120",
        ]  # fmt: skip

    def ssh(
        self, command: str, check: bool = True, timeout: float | None = None, input: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A shell command as root. VmError: it failed (``check``); returncode 124: not done within ``timeout``."""
        words = ["ssh", *self._ssh_options(), "-p", str(self.port(22)), "root@127.0.0.1", command]
        try:
            done = subprocess.run(words, input=input or b"", capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            done = subprocess.CompletedProcess(words, 124, b"", b"not done in time")
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        if check and done.returncode:
            raise VmError(f"{self.name}: {command}: exit {done.returncode}\n{out[-2000:]}{err[-2000:]}")
        return subprocess.CompletedProcess(command, done.returncode, out, err)

    def said(self, command: str) -> str:
        """What a command that has to succeed says, without the last line's end."""
        return self.ssh(command).stdout.rstrip("\n")

    def ssh_argv(self, command: Sequence[str] = ()) -> list[str]:
        """For who wants to run ssh himself, with a terminal."""
        return ["ssh", *self._ssh_options(), "-p", str(self.port(22)), "root@127.0.0.1", *command]

    def push(self, files: Sequence[Path | str], place: str) -> None:
        self._copy([*map(str, files)], f"root@127.0.0.1:{place}")

    def pull(self, files: Sequence[str], place: Path | str) -> None:
        self._copy([f"root@127.0.0.1:{name}" for name in files], str(place))

    def _copy(self, sources: list[str], place: str) -> None:
        run("scp", "-q", "-r", "-p", *self._ssh_options(), "-P", self.port(22), "--", *sources, place)

    def hang_up(self) -> None:
        """Close the shared connection: it would lead to a machine that is not there any more."""
        control = self.dir / "ssh.sock"
        if control.exists():
            words = ["ssh", "-F", "none", "-O", "exit", "-o", f"ControlPath={control}", "root@127.0.0.1"]
            subprocess.run(words, capture_output=True, check=False)
            control.unlink(missing_ok=True)

    # -- waiting -----------------------------------------------------------------------------------------------------

    def wait(self, timeout: float = BOOT, new: bool = False, trouble: bool = True) -> float:
        """Until ssh answers; seconds since the last `mark` or start. ``new``: by another boot than the last one that
        answered. ``trouble``: VmError at once when the serial log shows that the boot leads nowhere (say False where
        the machine is expected to recover from that)."""
        self.hang_up()
        end, old = time.monotonic() + timeout, self.facts.get("boot_id")
        while time.monotonic() < end:
            if not self.pid():
                raise VmError(f"{self.name}: QEMU has ended: {(self.dir / 'qemu.log').read_text(errors='replace')}")
            boot = self._boot_id()
            if boot and not (new and boot == old):
                seconds = time.time() - self.facts["since"]
                self.note(boot_id=boot, boot_seconds=round(seconds, 1))
                return seconds
            if trouble and (sign := self.serial.trouble()):
                time.sleep(2)
                self._no_boot(sign)
            time.sleep(0.5)
        self._no_boot(f"no ssh in {timeout:.0f} s")

    def _boot_id(self) -> str:
        """Of the system that answers ssh, or an empty string. (QEMU's port accepts before the guest listens.)"""
        try:
            with socket.create_connection(("127.0.0.1", self.port(22)), 3) as line:
                line.settimeout(10)
                if line.recv(4) != b"SSH-":
                    return ""
        except OSError:
            return ""
        done = self.ssh("cat /proc/sys/kernel/random/boot_id", check=False, timeout=25)
        if done.returncode:
            self.hang_up()
            return ""
        return done.stdout.strip()

    def _no_boot(self, why: str) -> NoReturn:
        raise VmError(f"{self.name} did not boot: {why}\n{'-' * 30} end of its serial log\n{self.serial.tail()}")


def save_together(machines: Sequence[Machine], tag: str) -> None:
    """As `Machine.save`, of machines that talk to each other: all stand still before the first one is saved, or one
    would have heard what the other one had not said yet."""
    try:
        for machine in machines:
            machine.monitor("stop")
        for machine in machines:
            machine.save(tag)
    finally:
        for machine in machines:
            machine.monitor("cont")


def _free(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _gone(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def write_config(home: Path) -> Path:
    """The file for ``ssh -F`` and ``livelift migrate --ssh-config``: the machines of this home by their names."""
    text = ""
    for name in ROLES:
        machine = Machine(name, home)
        if machine.facts.get("ports"):
            text += (
                f"Host {name}\n  HostName 127.0.0.1\n  Port {machine.port(22)}\n  User root\n"
                f"  IdentityFile {places.key()}\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n"
                "  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"
            )
    path = home / "ssh_config"
    path.write_text(text)
    return path
