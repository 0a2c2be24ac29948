"""Which file systems the job reads, found from the mount table, and the names that are left out of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from livelift.errors import PreflightError
from livelift.facts.mountinfo import Mount, parse_mountinfo
from livelift.facts.mounts import PlannedVolume, is_below, plan_volumes
from livelift.model.entry import object_id
from livelift.model.job import Map
from livelift.model.problem import Skipped
from livelift.model.record import Volume
from livelift.platform.system import os
from livelift.ports import WatchedVolume
from livelift.walk.scope import LEFT, MACHINE, OTHER_LINE, OWN


class Volumes(NamedTuple):
    """``by_device``: st_dev -> volume index. ``left_out``: (parent object, name) -> why, of mounts that take no part,
    directories with a line of their own, and what is not moved at all (`livelift.walk.scope.ABSENT`)."""

    planned: list[PlannedVolume]
    skipped: list[Skipped]
    by_device: dict[int, int]
    left_out: dict[tuple[int, bytes], str]

    def watched(self) -> list[WatchedVolume]:
        return [WatchedVolume(v.index, v.mountpoint, os.fsdecode(v.fstype), v.device) for v in self.planned]

    def records(self) -> list[Volume]:
        return [Volume(v.index, os.fsdecode(v.fstype), os.fsdecode(v.source), "", v.mountpoint) for v in self.planned]


def find_volumes(
    maps: Sequence[Map], own: Sequence[bytes], left: Sequence[bytes] = (), hollow: Sequence[bytes] = ()
) -> Volumes:
    """``own``: directories of the agents (state, spool, a replica on this machine): never walked, as ``left``, what
    belongs to the machine. ``hollow``: mount points of the machine's own file systems: only the directory moves."""
    roots = [os.path.realpath(m.source) for m in maps]
    machine = [os.path.realpath(path) for path in hollow]
    with open("/proc/self/mountinfo", "rb") as file:
        mounts = [mount for mount in parse_mountinfo(file.read()) if not _inside(mount, machine)]
    planned, skipped = plan_volumes(mounts, roots, lambda path: os.stat(path).st_dev)
    by_device = {v.device: v.index for v in planned}
    for root in roots:
        device = os.stat(root).st_dev
        if device not in by_device:
            reason = next((s.reason for s in skipped if is_below(root, s.path)), "not a file system that can be moved")
            raise PreflightError(
                f"{os.fsdecode(root)} cannot be moved: {reason}", remedy="choose a directory on a disk file system"
            )
    skipped += _skipped(roots, own, left, machine)
    left_out: dict[tuple[int, bytes], str] = {}
    for item in skipped:
        try:
            st = os.stat(os.path.dirname(item.path))
        except OSError:
            continue  # below something that is left out itself
        volume = by_device.get(st.st_dev)
        if volume is not None:
            left_out[object_id(volume, st.st_ino), os.path.basename(item.path)] = item.reason
    return Volumes(planned, skipped, by_device, left_out)


def _inside(mount: Mount, places: Sequence[bytes]) -> bool:
    return any(is_below(mount.mountpoint, place) for place in places)


def _skipped(
    roots: Sequence[bytes], own: Sequence[bytes], left: Sequence[bytes], machine: Sequence[bytes]
) -> Iterator[Skipped]:
    """What the mount table does not tell."""
    inner = [root for root in roots if any(is_below(root, other) for other in roots if other != root)]
    yield from (Skipped(root, OTHER_LINE) for root in inner)
    for paths, reason in ((own, OWN), (left, LEFT), (machine, MACHINE)):
        for path in paths:
            # Its name counts, not where a link of that name leads.
            real = os.path.realpath(path) if reason == OWN else _place(path)
            if any(is_below(real, root) and real != root for root in roots):
                yield Skipped(real, reason)


def _place(path: bytes) -> bytes:
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
