"""Where a whole system goes: the map lines of a server job, what is left out of it, and what stands in its way.

Every disk file system M of the target at whose mount point the source has a directory takes part; its line is
``M=M/.livelift/new``, so that what becomes the new system's M lies on M already. Lines are nested: the walk leaves a
directory that has a line of its own to that line. What the source has on a file system of its own and the target has
not, lands in the target's next file system above.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

import msgspec

from livelift.checks.findings import Finding, Level
from livelift.checks.storage import ROOT_TYPES
from livelift.model.facts import FileSystem, ServerFacts
from livelift.model.job import Map

BASE: Final = "/.livelift"
"""Of the job on the target: on the root's file system, outside of what is swapped, so both systems see it here."""
STAGED: Final = ".livelift/new"
OVERLAY: Final = ".livelift/overlay"
OURS: Final = (".livelift", ".livelift-kept")
"""Names at the top of a file system that are ours: a server that was moved before has them."""
AGENTS: Final = ("/var/lib/livelift", "/var/cache/livelift")
ESP_PLACES: Final = ("/boot/efi", "/efi", "/boot")
ESP_TYPES: Final = ("vfat", "msdos")


class Layout(msgspec.Struct, frozen=True):
    """``maps``: outer lines first. ``left``: paths of the source that the replica has not at all. ``hollow``: paths of
    the source that are empty directories in it. ``findings``: what does not fit, and what an operator should know."""

    maps: tuple[Map, ...] = ()
    left: tuple[str, ...] = ()
    hollow: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def mountpoints(self) -> tuple[str, ...]:
        """Of the target's file systems that take part."""
        return tuple(line.source.decode("utf-8", "surrogateescape") for line in self.maps)


def layout(
    source: ServerFacts, target: ServerFacts, missing: Collection[str] = (), without: Collection[str] = ()
) -> Layout:
    """``missing``: mount points of the target that are no directories on the source. ``without``: mount points that the
    operator leaves out: the new system finds there what the target has there now."""
    found = list(_problems(target, without))
    parts: list[FileSystem] = []
    for fs in candidates(target):
        if fs.mountpoint in without and fs.mountpoint != "/":
            found.append(_stays(fs.mountpoint, "the operator leaves it out"))
        elif fs.mountpoint in missing:
            found.append(_stays(fs.mountpoint, "the source has no such directory"))
        elif fs.fstype not in ROOT_TYPES and fs.mountpoint != "/":
            found.append(_stays(fs.mountpoint, f"a system cannot lie on {fs.fstype}"))
        else:
            parts.append(fs)
    lines = tuple(Map(_bytes(fs.mountpoint), _bytes(staged(fs.mountpoint))) for fs in parts)
    found += _of_the_source(source, {fs.mountpoint for fs in parts}, target)
    left = left_out(source, [fs.mountpoint for fs in parts])
    return Layout(lines, tuple(left), tuple(hollow(source)), tuple(found))


def staged(mountpoint: str) -> str:
    """Where the new system's ``mountpoint`` is prepared, on the target."""
    return f"{mountpoint.rstrip('/')}/{STAGED}"


def overlay(mountpoint: str) -> str:
    return f"{mountpoint.rstrip('/')}/{OVERLAY}"


def candidates(target: ServerFacts) -> list[FileSystem]:
    """Disk file systems that can hold a part of a system, the outer ones first. A second mount of one that is there
    already is none (subvolumes of btrfs are told apart by their place)."""
    found: dict[tuple[str, str], FileSystem] = {}
    for fs in sorted(target.file_systems, key=lambda fs: (fs.mountpoint.count("/"), len(fs.mountpoint), fs.mountpoint)):
        if is_esp(fs) or ".livelift" in fs.mountpoint.split("/"):
            continue
        found.setdefault((fs.device or fs.source, fs.mountpoint if fs.fstype == "btrfs" else ""), fs)
    return list(found.values())


def is_esp(fs: FileSystem) -> bool:
    """The EFI system partition belongs to the machine, not to the system."""
    return fs.fstype in ESP_TYPES and fs.mountpoint in ESP_PLACES


def hollow(source: ServerFacts) -> list[str]:
    return [fs.mountpoint for fs in source.file_systems if is_esp(fs)]


def left_out(source: ServerFacts, mountpoints: Sequence[str]) -> list[str]:
    """What lies on the source's file systems and does not belong to its system. ``mountpoints``: of the lines."""
    tops = dict.fromkeys(place.rstrip("/") for place in (*(fs.mountpoint for fs in source.file_systems), *mountpoints))
    names = [f"{top}/{name}" for top in tops for name in (*OURS, "lost+found")]
    return list(dict.fromkeys([*AGENTS, *names, *swap_files(source)]))


def swap_files(source: ServerFacts) -> list[str]:
    """In use, or named by fstab."""
    used = [swap.path for swap in source.swaps if swap.kind == "file"]
    named = [e.spec for e in source.fstab if e.vfstype == "swap" and e.spec[:1] == "/" and e.spec[:5] != "/dev/"]
    return list(dict.fromkeys([*used, *named]))


def _problems(target: ServerFacts, without: Collection[str]) -> Iterator[Finding]:
    for fs in candidates(target):
        if "ro" in fs.options and fs.mountpoint not in without:
            yield Finding(
                "target-read-only",
                Level.INHIBITOR,
                f"{fs.mountpoint} of the target is mounted read-only",
                f"mount -o remount,rw {fs.mountpoint}, or leave it out: --without {fs.mountpoint}",
            )
    known = {fs.mountpoint for fs in candidates(target)}
    for name in sorted(set(without) - known):
        yield Finding(
            "without-nothing",
            Level.INHIBITOR,
            f"--without {name}: the target has no such file system of its own",
            f"its file systems are {', '.join(sorted(known))}",
        )


def _stays(mountpoint: str, why: str) -> Finding:
    text = f"the target's file system at {mountpoint} takes no part: {why}; the moved system finds it as it is now"
    return Finding("target-fs-stays", Level.NOTE, text)


def _of_the_source(source: ServerFacts, parts: set[str], target: ServerFacts) -> Iterator[Finding]:
    for fs in source.file_systems:
        holder = target.holder(fs.mountpoint)
        if fs.mountpoint not in parts and not is_esp(fs) and holder is not None:
            yield Finding(
                "fs-joined",
                Level.NOTE,
                f"{fs.mountpoint} of the source has no file system of its own on the target: it goes to"
                f" {holder.mountpoint}",
            )
    files = swap_files(source)
    if files:
        yield Finding(
            "swap-file",
            Level.NOTE if target.swaps else Level.WARNING,
            f"the source's swap file {', '.join(files)} is not copied",
            "make one on the moved system if it needs it (mkswap, swapon, a line in fstab)",
        )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
