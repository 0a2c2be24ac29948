"""Which systemd units hold processes: the cgroup tree, in which slices hold units and units hold processes.

systemd.slice(5), Documentation/admin-guide/cgroup-v2.rst. Units of programs that make cgroups of their own (Docker with
the cgroupfs driver) are the directories below the root that are no slices.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from livelift.platform.linux.cgroups import hierarchies

_PF_KTHREAD = 0x00200000  # include/linux/sched.h


class Units(NamedTuple):
    """``mount``: where the tree is mounted. ``paths``: populated units, relative to it (system.slice/ssh.service),
    sorted. ``loose``: processes in no unit (in the root or in a slice itself), which cannot be frozen."""

    mount: bytes
    paths: tuple[bytes, ...]
    loose: tuple[int, ...]


def populated_units(mount: bytes = b"") -> Units:
    """Of cgroup v2 where it is mounted, else of systemd's own v1 hierarchy; empty where there is neither. ``mount``: a
    part of the tree instead."""
    if not mount:
        mounts = hierarchies()
        mount = mounts.get(b"v2") or mounts.get(b"systemd") or b""
    if not mount:
        return Units(b"", (), ())
    paths: list[bytes] = []
    loose: list[int] = []
    waiting = [b""]
    while waiting:
        slice_path = waiting.pop()
        directory = mount + b"/" + slice_path if slice_path else mount
        try:
            loose += _processes(directory)
            names = [entry.name for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
        except OSError:  # removed meanwhile
            continue
        for name in names:
            path = slice_path + b"/" + name if slice_path else name
            if name.endswith(b".slice"):
                waiting.append(path)
            elif _is_populated(mount + b"/" + path):
                paths.append(path)
    return Units(mount, tuple(sorted(paths)), tuple(pid for pid in sorted(loose) if not _is_kernel_thread(pid)))


def cgroup_of(pid: int | str) -> bytes:
    """The cgroup of a process, relative to the mount that `populated_units` reads, without a leading slash; empty for
    one in the root, or if there is no such process."""
    try:
        with open(f"/proc/{pid}/cgroup", "rb") as file:
            lines = file.read().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return b""
    wanted = b"" if b"v2" in hierarchies() else b"name=systemd"
    for line in lines:
        _, controllers, path = line.split(b":", 2)
        if controllers == wanted:
            return path.strip(b"/")
    return b""


def with_program(units: Units, scope: bytes, programs: Iterable[bytes]) -> bool:
    """Whether a process of this unit has one of these names (comm, 15 bytes)."""
    for pid in processes_below(units.mount + b"/" + scope):
        try:
            with open(f"/proc/{pid}/comm", "rb") as file:
                if file.read().strip() in programs:
                    return True
        except OSError:
            continue
    return False


def _is_populated(directory: bytes) -> bool:
    try:
        with open(directory + b"/cgroup.events", "rb") as file:
            return b"populated 1" in file.read()
    except FileNotFoundError:  # v1, or removed meanwhile
        return bool(processes_below(directory))
    except OSError:
        return False


def processes_below(directory: bytes) -> list[int]:
    """Of a cgroup and those in it."""
    found: list[int] = []
    for place, _, _ in os.walk(directory):
        try:
            found += _processes(place)
        except OSError:  # removed meanwhile, or a threaded cgroup, whose processes its domain lists
            continue
    return found


def _processes(directory: bytes) -> list[int]:
    with open(directory + b"/cgroup.procs", "rb") as file:
        return [int(word) for word in file.read().split()]


def _is_kernel_thread(pid: int) -> bool:
    """proc_pid_stat(5): the flags are the ninth field; the second may hold spaces and ends with the last ``)``."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return bool(int(file.read().rpartition(b")")[2].split()[6]) & _PF_KTHREAD)
    except (OSError, IndexError, ValueError):
        return True  # gone
