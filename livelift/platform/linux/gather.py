"""Freezing units where systemd keeps them in no freezer cgroup: its v1 tree (RHEL 8), or v2 before Linux 5.2.

Their processes are moved into one cgroup of the v1 freezer tree, of Livelift's own, and back when they are let go. A
process that is in a freezer cgroup already (a container's) stays in it, and that one is frozen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress

from livelift.errors import StateError
from livelift.platform.linux.cgroups import Freezer, hierarchies
from livelift.platform.linux.unit_tree import Units, processes_below

OURS = b"livelift-fence"
_ROUNDS = 50


def freezers(units: Units, paths: Iterable[bytes]) -> list[Freezer]:
    """One for each unit that is still there, or the few that hold all their processes; those stand still already.
    StateError: this kernel has no freezer that could hold them."""
    directories = [d for d in (units.mount + b"/" + path for path in paths) if os.path.isdir(d)]
    if not any(os.path.exists(d + b"/cgroup.freeze") for d in directories):
        return _gather([d for d in directories if os.path.isdir(d)])
    return [Freezer(d) for d in directories if os.path.exists(d + b"/cgroup.freeze")]


def _gather(directories: list[bytes]) -> list[Freezer]:
    if not directories:
        return []
    mount = hierarchies().get(b"v1")
    if mount is None:
        raise StateError(
            "this kernel has neither cgroup.freeze (cgroup v2, Linux 5.2) nor the v1 freezer",
            remedy="name the services to stop instead: --stop-unit UNIT",
        )
    ours = mount + b"/" + OURS
    with suppress(FileExistsError):
        os.mkdir(ours, 0o755)
    with open(ours + b"/freezer.state", "wb", buffering=0) as file:
        file.write(b"FROZEN")  # who is moved in stands still from then on, and cannot fork
    others: set[bytes] = set()
    try:
        for _ in range(_ROUNDS):
            waiting = [pid for directory in directories for pid in processes_below(directory)]
            left = 0
            for pid in waiting:
                place = _freezer_cgroup(pid)
                if place == b"/":
                    left += _move(pid, ours)
                elif place and place != b"/" + OURS:
                    others.add(mount + place)
            if not left:
                return [Freezer(ours), *(Freezer(path) for path in sorted(others))]
            time.sleep(0.01)
    except BaseException:
        let_go(ours)
        raise
    let_go(ours)
    raise StateError("the processes of the units to be frozen fork faster than they are found", remedy="try again")


def let_go(path: bytes) -> None:
    """Thaw; of the cgroup of our own nothing is left. OSError as the kernel says."""
    Freezer(path).thaw()
    if os.path.basename(path) != OURS:
        return
    above = os.path.dirname(path)
    for _ in range(_ROUNDS):
        for pid in processes_below(path):
            _move(pid, above)
        with suppress(OSError):
            os.rmdir(path)
            return
        time.sleep(0.01)


def _move(pid: int, directory: bytes) -> bool:
    """Whether it was there to be moved."""
    try:
        with open(directory + b"/cgroup.procs", "wb", buffering=0) as file:
            file.write(b"%d" % pid)
    except ProcessLookupError:
        return False
    return True


def _freezer_cgroup(pid: int) -> bytes:
    try:
        with open(b"/proc/%d/cgroup" % pid, "rb") as file:
            lines = file.read().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return b""
    for line in lines:
        _, controllers, path = line.split(b":", 2)
        if b"freezer" in controllers.split(b","):
            return path
    return b""
