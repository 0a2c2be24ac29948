"""Files that somebody holds for himself alone, on Windows: the ways around, in order.

1. a loaded registry hive is saved by the system itself (RegSaveKeyExW): consistent;
2. from a snapshot of the volume (VSS): consistent at the instant of the snapshot, which is made when it is needed and
   used for a quarter of an hour;
3. from the volume's own bytes (`livelift.ntfs`): what the disk held while they were read. The stamp is compared before
   and after, so a file that changed meanwhile is an error, not a mixture.

Each way that fails says why; the error tells all of them.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from livelift.errors import LiveliftError, RetryError
from livelift.ntfs.volume import Volume
from livelift.platform.windows import dll, files, hives, posix, vss
from livelift.platform.windows.raw import RawVolume
from livelift.platform.windows.volumes import volume_of

CHUNK: Final = 1 << 20
KEEP: Final = 900.0
"""Seconds that a snapshot is used: making one stops the writers of the machine for moments, so not for every file."""

Chunks = Iterator[tuple[int, bytes]]


class LockedFileError(LiveliftError):
    """{0} is held by another program, and no way around was open: {1}"""

    code = "locked-file"
    remedy = "close the program that holds it, or exclude the file from the job; it stays a gap until it can be read"


class Place(NamedTuple):
    """A file as every way needs it. ``drive``: the volume's mount point; ``path``: below the volume's root."""

    drive: str
    device: str
    path: str
    reference: int


Way = Callable[[Place], Chunks]


def read_locked(dir_fd: int, name: bytes) -> Chunks:
    """(offset, bytes) of the content in order, at most 1 MiB each; what is not in them is zeros.

    LockedFileError: no way was open. RetryError, possibly after some chunks: it changed meanwhile, what came before is
    worth nothing."""
    handle = files.open_at(dll.handle_of(dir_fd), name, files.LOOK)
    try:
        place = _place(handle)
    finally:
        files.close(handle)
    yield from by_the_first(place, WAYS)


def by_the_first(place: Place, ways: tuple[tuple[str, Way], ...]) -> Chunks:
    """The chunks of the first way that gives any. A way that fails after its first chunk is not replaced by another:
    the two would be of different instants."""
    reasons = []
    for name, way in ways:
        chunks = way(place)
        try:
            first = next(chunks, None)
        except (LiveliftError, OSError, ValueError) as error:
            reasons.append(f"{name}: {error.args[0] if isinstance(error, LiveliftError) else error}")
            continue
        if first is not None:
            yield first
            yield from chunks
        return
    raise LockedFileError(place.path, "; ".join(reasons))


def _place(handle: int) -> Place:
    path = os.fsdecode(files.path_on_volume(handle))
    final = posix.final_path(handle)
    volume = volume_of(final)
    return Place(volume.mountpoint, volume.device, path, files.information(handle).reference)


# -- the ways ---------------------------------------------------------------------------------------------------------


def from_registry(place: Place) -> Chunks:
    """ValueError: it is no hive. OSError: the system does not save it."""
    registry_path = hive_of(place.path, hives.loaded())
    with tempfile.TemporaryDirectory(prefix="livelift-hive-") as directory:
        copy = os.path.join(directory, "hive")
        hives.save(registry_path, copy)
        with open(copy, "rb") as file:
            if file.read(4) != b"regf":
                raise ValueError("what the system saved is no hive")
            file.seek(0)
            yield from _chunks_of(file.read)


def hive_of(path: str, loaded: dict[str, str]) -> str:
    r"""The registry path of a hive's file. ``loaded`` has device paths: ``\Device\HarddiskVolume2`` and the path on the
    volume. ValueError: no loaded hive lies there. Pure."""
    for registry_path, file in loaded.items():
        parts = file.split("\\", 3)
        inside = "\\" + parts[3] if len(parts) == 4 and parts[1].casefold() == "device" else file
        if inside.casefold() == path.casefold():
            return registry_path
    raise ValueError("it is no loaded hive")


class Snapshots:
    """At most one snapshot of each volume, made when it is asked for, deleted when it is too old or at the end."""

    def __init__(
        self,
        create: Callable[[str], vss.Snapshot] = vss.create,
        delete: Callable[[vss.Snapshot], None] = vss.delete,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._create, self._delete, self._clock = create, delete, clock
        self._lock = threading.Lock()
        self._made: dict[str, tuple[float, vss.Snapshot]] = {}

    def of(self, drive: str) -> vss.Snapshot:
        with self._lock:
            known = self._made.get(drive)
            if known is not None and self._clock() - known[0] < KEEP:
                return known[1]
            if known is not None:
                del self._made[drive]
                self._delete(known[1])
            snapshot = self._create(drive)
            self._made[drive] = (self._clock(), snapshot)
            return snapshot

    def close(self) -> None:
        with self._lock:
            while self._made:
                _, (_, snapshot) = self._made.popitem()
                self._delete(snapshot)


snapshots = Snapshots()


def from_snapshot(place: Place) -> Chunks:
    handle = files.open_path(vss.path_in(snapshots.of(place.drive), place.path), files.GENERIC_READ)
    fd = dll.open_descriptor(handle, 0x8000)
    try:
        at = 0
        while data := posix.pread(fd, CHUNK, at):
            yield at, data
            at += len(data)
    finally:
        posix.close(fd)


def from_sectors(place: Place) -> Chunks:
    raw = RawVolume(place.device)
    try:
        raw.flush()
        before = _stamp(place)
        volume = Volume(raw.read)
        stream = volume.open(place.reference)
        if stream.size != before[0]:
            raise RetryError(f"{place.path} is {before[0]} bytes long, its file record says {stream.size}")
        for offset, data in stream.chunks():
            for start in range(0, len(data), CHUNK):
                yield offset + start, data[start : start + CHUNK]
        if _stamp(place) != before:
            raise RetryError(f"{place.path} changed while its sectors were read")
    finally:
        raw.close()


def _stamp(place: Place) -> tuple[int, int, int]:
    handle = files.open_path(place.drive.rstrip("\\") + place.path, files.READ_ATTRIBUTES)
    try:
        found = files.information(handle)
        return found.size, found.written, found.changed
    finally:
        files.close(handle)


def _chunks_of(read: Callable[[int], bytes]) -> Chunks:
    at = 0
    while data := read(CHUNK):
        yield at, data
        at += len(data)


WAYS: Final[tuple[tuple[str, Way], ...]] = (
    ("registry", from_registry),
    ("snapshot", from_snapshot),
    ("sectors", from_sectors),
)
