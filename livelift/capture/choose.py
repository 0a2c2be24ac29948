"""Which capture mode: the best one that works here, and in plain words why not a better one.

MODES is in order of preference. A new mode is one more line there, nothing else. Those that are not ``automatic`` are
tried only when the operator asks for them by name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

from livelift.capture.canary import CanaryReport, sing
from livelift.capture.ebpf.capture import EbpfSyscallCapture
from livelift.capture.ebpf.inorder import EbpfFexitCapture
from livelift.capture.fanotify import FanotifyCapture
from livelift.capture.inotify import InotifyCapture
from livelift.errors import LiveliftError, PreflightError, UnfitFilesystemError
from livelift.ports import Capture, WatchedVolume


class Mode(NamedTuple):
    """A way to capture: its class is made without arguments; ``promise`` and ``blind_to`` are that of the class.

    ``serve`` makes the one for the job, if it is to leave out the agent's own writes (the canary needs to see them).
    """

    name: str
    make: Callable[[], Capture]
    serve: Callable[[], Capture] | None = None
    automatic: bool = True


MODES: tuple[Mode, ...] = (
    Mode("ebpf", EbpfFexitCapture, lambda: EbpfFexitCapture(ignored=(os.getpid(),)), automatic=False),
    Mode("ebpf-syscall", EbpfSyscallCapture, lambda: EbpfSyscallCapture(ignored=(os.getpid(),)), automatic=False),
    Mode("fanotify", FanotifyCapture),
    Mode("inotify", InotifyCapture),
)


class Candidate(NamedTuple):
    """A mode on this machine. ``why`` says what stands in its way if it is not ``available``, else how it was tried."""

    name: str
    available: bool
    why: str
    remedy: str
    promise: str
    blind_to: tuple[str, ...]
    reports: tuple[CanaryReport, ...]  # one for each volume
    unfit: bool = False  # for a file system


class Choice(NamedTuple):
    """What the operator is told. ``rejected``: (mode, reason) for every mode that would have come before."""

    name: str
    promise: str
    blind_to: tuple[str, ...]
    why: str
    rejected: tuple[tuple[str, str], ...]


def probe(volumes: Iterable[WatchedVolume], modes: Iterable[Mode] = MODES) -> list[Candidate]:
    """Try every automatic mode on every volume with the canary. In order of preference."""
    volumes = list(volumes)
    return [_try(mode, volumes) for mode in modes if mode.automatic]


def choose(
    volumes: Iterable[WatchedVolume], requested: str = "auto", modes: Iterable[Mode] = MODES
) -> tuple[Capture, Choice]:
    """The best mode that works on all volumes, or the requested one; not started yet.

    PreflightError: the requested one does not work here, or none does.
    """
    modes, volumes = list(modes), list(volumes)
    if requested != "auto":
        modes = [mode for mode in modes if mode.name == requested]
        if not modes:
            known = ", ".join(mode.name for mode in MODES)
            raise PreflightError(f"there is no capture mode {requested!r}", remedy=f"use auto or one of: {known}")
    else:
        modes = [mode for mode in modes if mode.automatic]
    rejected: list[tuple[str, str]] = []
    remedies: list[str] = []
    error = PreflightError
    for mode in modes:
        candidate = _try(mode, volumes)
        if candidate.available:
            choice = Choice(mode.name, candidate.promise, candidate.blind_to, candidate.why, tuple(rejected))
            return (mode.serve or mode.make)(), choice
        error = UnfitFilesystemError if candidate.unfit and requested != "auto" else error
        rejected.append((mode.name, candidate.why))
        remedies.append(candidate.remedy)
    raise error(
        "capture does not work here: " + "; ".join(f"{name}: {why}" for name, why in rejected),
        remedy="; ".join(filter(None, remedies)) or "use --capture auto",
    )


def _try(mode: Mode, volumes: list[WatchedVolume]) -> Candidate:
    sample = mode.make()
    reports: list[CanaryReport] = []
    why = remedy = ""
    unfit = False
    try:
        with contextlib.closing(mode.make()) as whole:
            whole.start(volumes, lambda _: False)
        reports = [sing(mode.make(), volume) for volume in volumes]
    except LiveliftError as error:
        why, remedy, unfit = str(error.args[0]), error.remedy, isinstance(error, UnfitFilesystemError)
    except OSError as error:
        why = str(error)
    else:
        why, remedy = _judge(reports, volumes, sample)
    available = not why
    blind = (*sample.blind_to, *sorted(_optional(sample) & set().union(*(report.missed for report in reports))))
    return Candidate(
        mode.name, available, why or _tried(reports, volumes), remedy, sample.promise, blind, tuple(reports), unfit
    )


def _optional(mode: Capture) -> set[str]:
    """Operations that a mode may miss here; it is then blind to them, and says so."""
    return set(getattr(mode, "optional", ()))


def _judge(reports: list[CanaryReport], volumes: list[WatchedVolume], mode: Capture) -> tuple[str, str]:
    """Why the mode cannot be trusted, and what to do; empty if everything arrived that it claims to see.

    Names in ``blind_to`` that are also operations of the canary ("mmap", "inode-flags") are excused. What an in-kernel
    mode claims to tell exactly (``exact``) must have come as a record: a mark, which fanotify beside it gives as well,
    does not show that its programs run.
    """
    exact = set(getattr(mode, "exact", ())) - _optional(mode)
    for report, volume in zip(reports, volumes, strict=True):
        missing = report.missed - set(mode.blind_to) - _optional(mode)
        if missing:
            names = ", ".join(sorted(missing))
            return f"it did not report {names} on {_place(volume)}", "use another mode, and report this kernel"
        vague = (exact & report.seen) - report.exact
        if vague:
            names = ", ".join(sorted(vague))
            return f"it told no content of {names} on {_place(volume)}", "use another mode, and report this kernel"
    return "", ""


def _tried(reports: list[CanaryReport], volumes: list[WatchedVolume]) -> str:
    tried = {volume.fstype for report, volume in zip(reports, volumes, strict=True) if report.seen}
    text = f"every operation that it can see was seen ({', '.join(sorted(tried))})" if tried else "started"
    for report, volume in zip(reports, volumes, strict=True):
        if not report.seen:
            elsewhere = ", but on another volume of this type" if volume.fstype in tried else ""
            text += f"; not tried on {_place(volume)}: {report.not_tried[0][1]}{elsewhere}"
    return text


def _place(volume: WatchedVolume) -> str:
    return f"{os.fsdecode(volume.mountpoint)} ({volume.fstype})"
