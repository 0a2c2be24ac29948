"""What belongs to the job: which paths, on which volumes, and what is left out and why."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from livelift.facts.mounts import PlannedVolume, is_below
from livelift.model.job import Map
from livelift.model.problem import Skipped

EXCLUDED: Final = "excluded by the job"
OWN: Final = "Livelift's own files"
OTHER_LINE: Final = "has a line of its own in the job's map"
LEFT: Final = "not a part of the system that moves"
MACHINE: Final = "a file system that belongs to the machine"
ABSENT: Final = frozenset({OWN, LEFT})
"""Reasons for which the replica has nothing at all in that place; for all others it has an empty directory."""
_SUBVOLUMES: Final = b"btrfs"


class Verdict(IntEnum):
    """What to do with a name; SKIP is false."""

    SKIP = 0
    HOLLOW = 1  # the directory itself but nothing in it: something that is not moved is mounted there
    WALK = 2


class Scope:
    """Decides by path, once per name, before anything is opened.

    Exclusion is about trees: what lies in an excluded directory is excluded unless an include pattern, nearer to it,
    takes it back. The directories on the way to something included are walked for its sake and nothing else in them is.
    """

    def __init__(
        self,
        maps: Iterable[Map],
        own: Iterable[bytes] = (),
        volumes: Iterable[PlannedVolume] = (),
        skipped: Iterable[Skipped] = (),
    ) -> None:
        """``own``: absolute paths of our state directories. ``volumes``, ``skipped``: from `plan_volumes`."""
        self.maps = tuple(maps)
        self.volumes = list(volumes)
        self._sources = [_absolute(line.source) for line in self.maps]
        self._rules = [_Rules(line) for line in self.maps]
        self.skipped: dict[bytes, str] = {entry.path: entry.reason for entry in skipped}
        self._hollow = set(self.skipped)
        self._barred = {_absolute(path): OWN for path in own}
        for source in self._sources:
            inner = (other for other in self._sources if other != source and is_below(other, source))
            self._barred.update((other, OTHER_LINE) for other in inner)
        self._entered = {tree: volume.index for volume in self.volumes for tree in volume.trees}
        self._volume_of = {volume.device: volume.index for volume in self.volumes}

    def path_of(self, number: int, relative: bytes) -> bytes:
        """The absolute path of a path below the source of map line ``number``; b"" is the source itself."""
        return _absolute(self._sources[number] + b"/" + relative)

    def judge(self, number: int, relative: bytes, *, is_dir: bool) -> Verdict:
        """For a path in a directory that is walked. ``relative``: below the source of line ``number``: b"etc/fstab".

        A directory that is skipped here is a tree that need not be entered; it is then listed in ``skipped``.
        """
        if not relative:
            return Verdict.WALK
        path = self.path_of(number, relative)
        if (reason := self._barred.get(path)) is not None:
            self.skipped[path] = reason
            return Verdict.HOLLOW if reason == OTHER_LINE and is_dir else Verdict.SKIP
        rules = self._rules[number]
        if not rules.empty and not rules.allows(relative, is_dir):
            if is_dir:
                self.skipped[path] = EXCLUDED
            return Verdict.SKIP
        if path in self._hollow:
            return Verdict.HOLLOW if is_dir else Verdict.SKIP
        return Verdict.WALK

    def allows(self, number: int, relative: bytes, *, is_dir: bool) -> bool:
        """Whether the name takes part at all; hollow counts as that."""
        return self.judge(number, relative, is_dir=is_dir) is not Verdict.SKIP

    def judge_alone(self, number: int, relative: bytes, *, is_dir: bool) -> Verdict:
        """The same for a path that was not reached by walking: every directory above it has to be walked too."""
        slash = relative.find(b"/")
        while slash >= 0:
            if self.judge(number, relative[:slash], is_dir=True) is not Verdict.WALK:
                return Verdict.SKIP
            slash = relative.find(b"/", slash + 1)
        return self.judge(number, relative, is_dir=is_dir)

    def volume_of(self, device: int) -> int | None:
        """The index of the volume with this st_dev, None if it does not take part."""
        return self._volume_of.get(device)

    def enter(self, number: int, relative: bytes, device: int, above: int) -> int | None:
        """The volume of a directory whose st_dev ``device`` differs from that of the directory above it (``above``).

        None: it is hollow (and listed in ``skipped``): a file system that was mounted after the start, or a second way
        to a volume that is walked elsewhere. A btrfs subvolume without a mount of its own becomes a volume of its own,
        since its inode numbers begin anew; it is appended to ``volumes``.
        """
        path = self.path_of(number, relative)
        if (index := self._entered.get(path)) is not None:
            return index
        parent = self._volume_of.get(above)
        known = self._volume_of.get(device)
        if known is not None:
            self.skipped[path] = f"the same files as in {_shown(self.volumes[known].mountpoint)}"
            return None
        if parent is None or self.volumes[parent].fstype != _SUBVOLUMES:
            self.skipped[path] = "a file system that was mounted after the job had begun"
            return None
        index = len(self.volumes)
        inherited = self.volumes[parent]
        self.volumes.append(PlannedVolume(index, device, inherited.fstype, inherited.source, path, (path,)))
        self._volume_of[device] = self._entered[path] = index
        return index

    def skipped_trees(self) -> list[Skipped]:
        """What was left out so far, sorted by path."""
        return [Skipped(path, reason) for path, reason in sorted(self.skipped.items())]


class _Rules:
    """The exclude and include patterns of one map line."""

    def __init__(self, line: Map) -> None:
        self._exclude = _Patterns(line.exclude)
        self._include = _Patterns(line.include)
        self._on_the_way = _Patterns(
            b"/" + b"/".join(parts[:depth])
            for parts in (pattern.strip(b"/").split(b"/") for pattern in line.include)
            for depth in range(1, len(parts))
        )
        self.empty = not line.exclude
        self._last: tuple[bytes, bool] = (b"", True)  # names of one directory come one after another

    def allows(self, relative: bytes, is_dir: bool) -> bool:
        """The nearest match decides, from the path itself upwards; at the same place include wins."""
        found = self._match(relative, is_dir)
        if found is None:
            parent = relative.rpartition(b"/")[0]
            if parent != self._last[0]:
                self._last = (parent, self._tree(parent))
            found = self._last[1]
        return found or (is_dir and self._on_the_way.match(relative, True))

    def _tree(self, directory: bytes) -> bool:
        while directory:
            found = self._match(directory, True)
            if found is not None:
                return found
            directory = directory.rpartition(b"/")[0]
        return True

    def _match(self, relative: bytes, is_dir: bool) -> bool | None:
        if self._include.match(relative, is_dir):
            return True
        return False if self._exclude.match(relative, is_dir) else None


class _Patterns:
    """fnmatch patterns: with a slash for the whole relative path, without for the last name.

    A slash at the end: directories only. ``*`` matches slashes too.
    """

    def __init__(self, patterns: Iterable[bytes]) -> None:
        plain = list(patterns)
        self._any = _compile(pattern for pattern in plain if not pattern.endswith(b"/"))
        self._directories = _compile(plain)

    def match(self, relative: bytes, is_dir: bool) -> bool:
        expression = self._directories if is_dir else self._any
        return expression is not None and expression.match(relative) is not None


def _compile(patterns: Iterable[bytes]) -> re.Pattern[bytes] | None:
    """One expression for all patterns, so that the cost per name does not grow with their number."""
    parts = []
    for pattern in patterns:
        bare = pattern.rstrip(b"/")
        if b"/" in bare:
            parts.append(_translate(bare.lstrip(b"/")))
        elif bare:
            parts.append(b"(?:.*/)?" + _translate(bare))
    return re.compile(b"(?s:" + b"|".join(parts) + b")") if parts else None


def _translate(pattern: bytes) -> bytes:
    return fnmatch.translate(pattern.decode("latin-1")).encode("latin-1")


def _absolute(path: bytes) -> bytes:
    return b"/" + path.strip(b"/")


def _shown(path: bytes) -> str:
    return path.decode(errors="surrogateescape")
