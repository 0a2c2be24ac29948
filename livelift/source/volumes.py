"""Which file systems the job reads, found from the mount table, and the names that are left out of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from livelift.errors import PreflightError
from livelift.facts.mounts import PlannedVolume, is_below, parse_mountinfo, plan_volumes
from livelift.model.entry import object_id
from livelift.model.job import Map
from livelift.model.problem import Skipped
from livelift.model.record import Volume
from livelift.platform.system import os
from livelift.ports import WatchedVolume


class Volumes(NamedTuple):
    """``by_device``: st_dev -> volume index. ``left_out``: (parent object, name) of mounts and own directories."""

    planned: list[PlannedVolume]
    skipped: list[Skipped]
    by_device: dict[int, int]
    left_out: dict[tuple[int, bytes], str]

    def watched(self) -> list[WatchedVolume]:
        return [WatchedVolume(v.index, v.mountpoint, os.fsdecode(v.fstype), v.device) for v in self.planned]

    def records(self) -> list[Volume]:
        return [Volume(v.index, os.fsdecode(v.fstype), os.fsdecode(v.source), "", v.mountpoint) for v in self.planned]


def find_volumes(maps: Sequence[Map], own: Sequence[bytes]) -> Volumes:
    """``own``: directories of the agents (state, spool, a replica on this machine): never walked."""
    roots = [os.path.realpath(m.source) for m in maps]
    with open("/proc/self/mountinfo", "rb") as file:
        mounts = parse_mountinfo(file.read())
    planned, skipped = plan_volumes(mounts, roots, lambda path: os.stat(path).st_dev)
    by_device = {v.device: v.index for v in planned}
    for root in roots:
        device = os.stat(root).st_dev
        if device not in by_device:
            reason = next((s.reason for s in skipped if is_below(root, s.path)), "not a file system that can be moved")
            raise PreflightError(
                f"{os.fsdecode(root)} cannot be moved: {reason}", remedy="choose a directory on a disk file system"
            )
    left_out: dict[tuple[int, bytes], str] = {}
    for path in own:
        real = os.path.realpath(path)
        if any(is_below(real, root) for root in roots):
            skipped.append(Skipped(real, "Livelift's own directory"))
    for item in skipped:
        try:
            st = os.stat(os.path.dirname(item.path))
        except OSError:
            continue  # below something that is left out itself
        volume = by_device.get(st.st_dev)
        if volume is not None:
            left_out[object_id(volume, st.st_ino), os.path.basename(item.path)] = item.reason
    return Volumes(planned, skipped, by_device, left_out)
