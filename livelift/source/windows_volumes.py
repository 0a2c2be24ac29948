"""Which volumes the job reads on Windows: one for each map, found by path (GetVolumePathNameW and its family).

NTFS only: ReFS has 128-bit file ids, which do not fit into an object id; FAT has ids that move.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from livelift.errors import PreflightError
from livelift.facts.mounts import PlannedVolume
from livelift.model.entry import object_id
from livelift.model.job import Map
from livelift.model.problem import Skipped
from livelift.platform.windows import posix, volumes
from livelift.source.volumes import Volumes
from livelift.walk.scope import OWN


def find_volumes(
    maps: Sequence[Map], own: Sequence[bytes], left: Sequence[bytes] = (), hollow: Sequence[bytes] = ()
) -> Volumes:
    """``own``: directories of the agents: never walked. ``left``, ``hollow``: none on Windows, where no whole system
    is mapped. PreflightError: a map on a file system that cannot be moved.

    A volume that is mounted in a directory below a map is not entered: the mount point is a reparse point and travels
    as one. Map it by its own path.
    """
    roots = [os.path.realpath(m.source) for m in maps]
    planned: list[PlannedVolume] = []
    trees: dict[int, list[bytes]] = {}
    by_device: dict[int, int] = {}
    skipped: list[Skipped] = []
    for root in roots:
        found = volumes.volume_of(os.fsdecode(root))
        if found.filesystem.upper() != "NTFS":
            raise PreflightError(
                f"{os.fsdecode(root)} cannot be moved: it is on {found.filesystem or 'an unknown file system'}",
                remedy="choose a directory on an NTFS volume",
            )
        device = posix.stat(root).st_dev
        if device not in by_device:
            by_device[device] = len(planned)
            planned.append(PlannedVolume(len(planned), device, b"ntfs", os.fsencode(found.device), root, ()))
        trees.setdefault(device, []).append(root)
    planned = [
        # The directory that holds all its maps: a watch on the whole volume would tell of everybody's temporary files.
        msgspec.structs.replace(v, mountpoint=os.path.commonpath(trees[v.device]), trees=tuple(trees[v.device]))
        for v in planned
    ]
    left_out: dict[tuple[int, bytes], str] = {}
    for path in own:
        real = os.path.realpath(path)
        if any(_is_below(real, root) for root in roots):
            skipped.append(Skipped(real, OWN))
            st = posix.stat(os.path.dirname(real))
            left_out[object_id(by_device[st.st_dev], st.st_ino), os.path.basename(real)] = skipped[-1].reason
    return Volumes(planned, skipped, by_device, left_out)


def _is_below(path: bytes, parent: bytes) -> bool:
    path, parent = os.path.normcase(path), os.path.normcase(parent).rstrip(b"\\")
    return path == parent or path.startswith(parent + b"\\")
