"""Preflight rules for data trees: facts in, findings out. Each rule is a function with one concern."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from livelift.checks.findings import Finding, Level
from livelift.model.job import Map

CLOCK_SKEW = 60.0
"""Seconds. Certificates and the lag are told by the clock; NTP keeps real servers within milliseconds."""
HEADROOM = 1.02


class SourceFacts(NamedTuple):
    """``missing``: map sources that are no directories. ``used``: bytes and inodes that the maps hold at most."""

    missing: tuple[bytes, ...]
    used_bytes: int
    used_inodes: int
    boot_id: str
    real: tuple[bytes, ...]  # real paths of the maps' sources
    root: bool


class TargetFacts(NamedTuple):
    """Of one map's target directory. ``identity``: (st_dev, st_ino); ``above``: those of the directories over it."""

    path: str
    real: str
    free_bytes: int
    free_inodes: int  # -1: no fixed number
    xattr: bool
    acl: bool
    case_sensitive: bool
    empty: bool


def check_maps(maps: tuple[Map, ...], source: SourceFacts) -> Iterator[Finding]:
    for path in source.missing:
        yield Finding(
            "source-missing", Level.INHIBITOR, f"{_text(path)} is not a directory on the source", "correct --map"
        )
    named = list(check_overlap("source", [m.source for m in maps], nested=True))
    yield from named or check_overlap("source", source.real, nested=True)  # through symlinks
    yield from check_overlap("target", [m.target for m in maps])
    if not source.root:
        yield Finding(
            "not-root",
            Level.WARNING,
            "not running as root: files of other users, security attributes and device nodes cannot all be read",
            "run the agent as root for a complete copy",
        )


def check_overlap(side: str, paths: Sequence[bytes], nested: bool = False) -> Iterator[Finding]:
    """``paths``: real ones where they are known, so that a symlink hides nothing. ``nested``: one may lie in another
    (on Linux: the walk leaves it to its own line), but not be the same."""
    for i, one in enumerate(paths):
        for other in paths[i + 1 :]:
            if nested and one.startswith(b"/"):
                wrong = one == other
            else:
                wrong = _inside(one, other) or _inside(other, one)
            if wrong:
                yield Finding(
                    "maps-overlap",
                    Level.INHIBITOR,
                    f"the {side} directories {_text(one)} and {_text(other)} overlap",
                    "map the outer directory only, or use --exclude",
                )


def check_target(source: SourceFacts, targets: list[TargetFacts], boot_id: str, resumed: bool) -> Iterator[Finding]:
    """``resumed``: the replica holds a part already, so its free space is not compared with the whole."""
    if not resumed:
        yield from _room(source, targets)
    for t in targets:
        if not t.xattr:
            yield Finding(
                "target-no-xattr",
                Level.INHIBITOR,
                f"{t.path}: its file system keeps no extended attributes",
                "use ext4, XFS or btrfs on the target",
            )
        elif not t.acl:
            yield Finding(
                "target-no-acl",
                Level.INHIBITOR,
                f"{t.path}: its file system keeps no POSIX ACLs",
                "mount it with the option acl, or use ext4, XFS or btrfs",
            )
        if not t.case_sensitive:
            yield Finding(
                "target-case",
                Level.INHIBITOR,
                f"{t.path}: its file system does not distinguish upper and lower case",
                "names that differ in case only would overwrite each other: use a case-sensitive file system",
            )
        if boot_id == source.boot_id:
            for real in source.real:
                if _inside(t.real.encode("utf-8", "surrogateescape"), real):
                    yield Finding(
                        "replica-in-source",
                        Level.INHIBITOR,
                        f"the replica {t.path} lies inside the source tree {_text(real)} on the same machine",
                        "choose a target directory outside of every source tree",
                    )
                if _inside(real, t.real.encode("utf-8", "surrogateescape")):
                    yield Finding(
                        "source-in-replica",
                        Level.INHIBITOR,
                        f"the source tree {_text(real)} lies inside the replica {t.path} on the same machine",
                        "choose a target directory outside of every source tree",
                    )
        if not resumed and not t.empty:
            yield Finding(
                "target-not-empty",
                Level.INHIBITOR,
                f"{t.path} is not empty: what is there and not on the source would be removed",
                "choose an empty directory, or say --ignore target-not-empty",
            )


def check_clocks(skew_ns: int) -> Iterator[Finding]:
    if abs(skew_ns) > CLOCK_SKEW * 1e9:
        yield Finding(
            "clock-skew",
            Level.INHIBITOR,
            f"the clocks of source and target are {abs(skew_ns) / 1e9:.0f} s apart",
            "set both by NTP (timedatectl set-ntp true)",
        )


def _room(source: SourceFacts, targets: list[TargetFacts]) -> Iterator[Finding]:
    free = min((t.free_bytes for t in targets), default=0) if len(targets) == 1 else sum(t.free_bytes for t in targets)
    if source.used_bytes * HEADROOM > free:
        yield Finding(
            "target-too-small",
            Level.INHIBITOR,
            f"the source holds up to {source.used_bytes >> 20} MiB, the target has {free >> 20} MiB free",
            "make the target's file system larger, or use --exclude",
        )
    inodes = min((t.free_inodes for t in targets if t.free_inodes >= 0), default=-1)
    if 0 <= inodes < source.used_inodes:
        yield Finding(
            "target-inodes",
            Level.INHIBITOR,
            f"the source holds up to {source.used_inodes} objects, the target has {inodes} free inodes",
            "make the target's file system with more inodes (mkfs.ext4 -N)",
        )


def _inside(path: bytes, other: bytes) -> bool:
    return path == other or path.startswith(other.rstrip(b"/") + b"/")


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
