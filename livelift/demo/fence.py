"""What is fenced: the group of processes that stand for the services of the source.

As root it is a cgroup that the source agent freezes (cgroup v2 ``cgroup.freeze``, or the v1 freezer controller where v2
is not in use). Without root the demo itself stops the processes by SIGSTOP, one by one, which is weaker: a process is
stopped at some point of time, all of them at no common one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from livelift.errors import LiveliftError, PreflightError

ROOT = Path("/sys/fs/cgroup")


def hierarchy(root: Path = ROOT) -> Path:
    """Where groups that can be frozen are made: v2 at the root (unified) or beside v1 (hybrid), then the v1 freezer."""
    for candidate in (root, root / "unified"):
        if (candidate / "cgroup.controllers").exists():
            return candidate
    if (root / "freezer" / "cgroup.procs").exists():
        return root / "freezer"
    raise PreflightError(
        f"no cgroup hierarchy with a freezer below {root}",
        remedy="mount -t cgroup2 none /sys/fs/cgroup",
    )


class ServiceGroup:
    """A cgroup of the demo's own. `Path` ``path`` is what ``--fence-cgroup`` gets."""

    def __init__(self, undo: contextlib.ExitStack, key: int) -> None:
        self.path = hierarchy() / f"livelift-demo-{key}"
        self.path.mkdir()
        undo.callback(self.remove)

    @property
    def enter(self) -> list[str]:
        """The words in front of a command that make it start inside: a member before its first own instruction."""
        return ["/bin/sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(self.path)]

    def members(self) -> list[int]:
        return [int(line) for line in (self.path / "cgroup.procs").read_text().split()]

    def kill(self, patience: float = 10) -> None:
        """SIGKILL to all, frozen or not: a frozen process that is killed never runs an instruction of its own again."""
        deadline = time.monotonic() + patience
        while members := self.members():
            signal_all(members, signal.SIGKILL)
            self._thaw()
            if time.monotonic() > deadline:
                raise LiveliftError(f"processes of {self.path} do not die: {members}")
            time.sleep(0.02)

    def _thaw(self) -> None:
        # v2 kills frozen processes as they are; the v1 freezer holds the signal back until it is thawed.
        v1 = self.path / "freezer.state"
        if v1.exists():
            v1.write_text("THAWED")
        elif (freeze := self.path / "cgroup.freeze").exists():
            freeze.write_text("0")

    def remove(self) -> None:
        self.kill()
        deadline = time.monotonic() + 5
        while True:
            try:
                self.path.rmdir()
                return
            except OSError:
                # EBUSY while the kernel still takes down the last exited process
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)


def signal_all(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and parent (proc(5), /proc/pid/stat), or None if the process has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0].decode(), int(fields[1])


def descendants(pid: int) -> list[int]:
    """A process and all below it, parents first. PostgreSQL's children each lead a group of their own (setsid in
    ``InitPostmasterChild``), so a signal to the process group would miss them."""
    below: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (stat := _stat(int(entry))) is not None:
            below.setdefault(stat[1], []).append(int(entry))
    found = [pid]
    for member in found:
        found.extend(below.get(member, ()))
    return found


def stop_tree(roots: Iterable[int], patience: float = 10) -> list[int]:
    """SIGSTOP to whole process trees, until no member runs and no new child appears; the pids, parents first."""
    roots = list(roots)
    stopped: list[int] = []
    deadline = time.monotonic() + patience
    while new := [pid for root in roots for pid in descendants(root) if pid not in stopped]:
        signal_all(new, signal.SIGSTOP)
        stopped.extend(new)
        # The signal acts later, at the return to user mode; until then the process can still fork and write.
        while any((stat := _stat(pid)) is not None and stat[0] not in "TtZX" for pid in stopped):
            if time.monotonic() > deadline:
                raise LiveliftError(f"processes do not stop: {stopped}")
            time.sleep(0.002)
    return stopped


def shared_memory(pids: Iterable[int]) -> set[int]:
    """Ids of the System V segments that processes have attached; killed processes leave them behind.

    /proc/pid/maps shows each as a file "/SYSVkey" whose inode number is the id (ipc/shm.c).
    """
    found: set[int] = set()
    for pid in pids:
        try:
            with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
                found.update(int(line.split()[4]) for line in maps if " /SYSV" in line)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
    return found
