"""Which capture mode on Windows: the USN journal where every volume has one that we may read, else the watch.

The chosen mode has shown on each volume that it sees a file being made, changed, renamed and removed (the canary).
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from livelift.capture.windows_usn import UsnCapture
from livelift.capture.windows_watch import WatchCapture
from livelift.errors import LiveliftError, PreflightError
from livelift.model.entry import object_id
from livelift.platform.windows import posix
from livelift.ports import Capture, Dirty, Event, Named, Op, Synced, WatchedVolume

PATIENCE: Final = 5.0

MODES: Final[tuple[tuple[str, Callable[[], Capture]], ...]] = (("usn", UsnCapture), ("watch", WatchCapture))


class Choice(NamedTuple):
    """As `livelift.capture.choose.Choice`: what the operator is told."""

    name: str
    promise: str
    blind_to: tuple[str, ...]
    why: str
    rejected: tuple[tuple[str, str], ...]


def choose(volumes: Iterable[WatchedVolume], requested: str = "auto") -> tuple[Capture, Choice]:
    """The best mode that works on all volumes, not started yet. PreflightError: none, or not the requested one."""
    volumes = list(volumes)
    modes = [mode for mode in MODES if requested in ("auto", mode[0])]
    if not modes:
        known = ", ".join(name for name, _ in MODES)
        raise PreflightError(f"there is no capture mode {requested!r}", remedy=f"use auto or one of: {known}")
    rejected: list[tuple[str, str]] = []
    for name, make in modes:
        try:
            missed = sorted({text for volume in volumes for text in sing(make(), volume)})
        except LiveliftError as error:
            rejected.append((name, str(error.args[0])))
            continue
        except OSError as error:
            rejected.append((name, str(error)))
            continue
        if missed:
            rejected.append((name, f"it did not report {', '.join(missed)}"))
            continue
        capture = make()
        return capture, Choice(
            name, capture.promise, capture.blind_to, "every operation of the canary was seen", tuple(rejected)
        )
    raise PreflightError(
        "capture does not work here: " + "; ".join(f"{name}: {why}" for name, why in rejected),
        remedy="run as an administrator, on NTFS volumes of this machine",
    )


def sing(capture: Capture, volume: WatchedVolume) -> set[str]:
    """Try create, write, rename and remove in a new directory; the names of what was not reported."""
    path = os.path.join(os.fsdecode(volume.mountpoint), f".livelift-canary-{os.urandom(6).hex()}")
    os.mkdir(path)
    try:
        capture.start([volume], lambda _: False)
        fd = posix.open(path, posix.O_DIRECTORY)
        try:
            oid = object_id(volume.index, posix.fstat(fd).st_ino)
            capture.watch_directory(oid, b"/proc/self/fd/%d" % fd)
            return {name for name, act, wanted in _operations(path) if not _seen(capture, oid, act, wanted)}
        finally:
            posix.close(fd)
            capture.close()
    finally:
        shutil.rmtree(path)


def _operations(path: str) -> list[tuple[str, Callable[[], object], frozenset[Op]]]:
    """(name, what to do, which operations of a name report it; empty: a mark)."""
    file, other = os.path.join(path, "file"), os.path.join(path, "other")

    def write() -> None:
        with open(file, "ab") as target:
            target.write(b"canary")

    return [
        ("create", lambda: open(file, "xb").close(), frozenset({Op.CREATED, Op.TOUCHED})),
        ("write", write, frozenset()),
        ("rename", lambda: os.rename(file, other), frozenset({Op.RENAMED})),
        ("remove", lambda: os.unlink(other), frozenset({Op.REMOVED})),
    ]


def _seen(capture: Capture, parent: int, act: Callable[[], object], wanted: frozenset[Op]) -> bool:
    act()
    deadline = time.monotonic() + PATIENCE
    token = 0
    while time.monotonic() < deadline:
        token += 1
        capture.sync(token)
        events: list[Event] = []
        while Synced(token) not in events and time.monotonic() < deadline:
            events += capture.read(0.2)
        if any(_reports(event, parent, wanted) for event in events):
            return True
        time.sleep(0.02)  # Wine tells of changes a moment later
    return False


def _reports(event: Event, parent: int, wanted: frozenset[Op]) -> bool:
    if isinstance(event, Named):
        return parent in (event.parent, event.new_parent) and event.op in wanted
    return isinstance(event, Dirty) and not wanted and event.parent == parent
