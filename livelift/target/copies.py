"""Point-in-time copies of the replica: made when the replay has come to a mark of the log, before it goes on.

Reflinks where the file system has them (XFS, btrfs, bcachefs): the copy takes no room and about a tenth of a
millisecond a file. Else the files are copied, and the replay waits as long as that takes; the source keeps the log
meanwhile.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from livelift.edits.copier import Copier, Links, Sum
from livelift.errors import StateError, StoreError, UsageError
from livelift.model.job import Map
from livelift.platform.linux.files import clone_range, data_extents, syncfs
from livelift.replay.directories import OURS

log = logging.getLogger(__name__)

LABEL: Final = "copy:"
"""Begins the label of the mark in the log; behind it the number of the copy."""

UNABLE: Final = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS, errno.EXDEV})


class Copy:
    """One that was asked for. ``done``: made, or failed with ``problem``."""

    def __init__(self, to: Path, number: str) -> None:
        self.to = to
        self.aside = to.with_name(f"{to.name}.partial-{number}")
        self.done = threading.Event()
        self.problem = ""
        self.result: dict[str, Any] = {}


class Copies:
    """The copies of one replica. `reached` is called by the thread that applies records, the rest by any other."""

    def __init__(self, maps: tuple[Map, ...]) -> None:
        self._maps = maps
        self._lock = threading.Lock()
        self._waiting: dict[str, Copy] = {}

    def verbs(self) -> dict[str, Callable[[dict[str, Any]], dict[str, Any]]]:
        return {"copy-begin": self.begin, "copy-take": self.take, "copy-keep": self.keep, "copy-drop": self.drop}

    def begin(self, options: dict[str, Any]) -> dict[str, Any]:
        """A mark with number ``id`` will come: then a copy is made in ``to``. What nobody took of earlier ones goes."""
        number, to = str(options["id"]), Path(str(options["to"]))
        self._check(to)
        with self._lock:
            left, self._waiting = list(self._waiting.values()), {number: Copy(to, number)}
        for copy in left:
            remove(copy.aside)
        return {}

    def _check(self, to: Path) -> None:
        if not to.is_absolute() or not to.name:
            raise UsageError(f"{to}: not an absolute path", remedy="give the directory that the copy becomes")
        if not to.parent.is_dir():
            raise UsageError(f"{to.parent} is not a directory on the target", remedy="make it, then try again")
        if to.exists() and (not to.is_dir() or any(to.iterdir())):
            raise UsageError(f"{to} exists on the target", remedy="remove it, or give another directory")
        place = to.parent.resolve() / to.name
        for line in self._maps:
            replica = Path(os.fsdecode(line.target)).resolve()
            if place == replica or replica in place.parents:
                raise UsageError(
                    f"{to} is inside the replica {replica}", remedy="give a directory beside it, on its file system"
                )

    def reached(self, label: str) -> None:
        """The replica is at this mark. Returns when the copy has been made, or given up: the replay goes on."""
        with self._lock:
            copy = self._waiting.get(label.removeprefix(LABEL)) if label.startswith(LABEL) else None
        if copy is None or copy.done.is_set():
            return
        began = time.monotonic()
        try:
            copier = Cloner()
            files = sum(copy_tree(copier, line, copy.aside) for line in self._maps)
            copy.result = {
                "to": str(copy.to),
                "files": files,
                "reflinked": copier.reflinked,
                "copied": copier.copied,
                "bytes_copied": copier.bytes,
                "copy_seconds": round(time.monotonic() - began, 3),
            }
        except (OSError, StoreError) as error:  # no room, say: the replay has nothing to do with it
            log.error("copy to %s: %s", copy.to, error)
            copy.problem = str(error)
            remove(copy.aside)
        finally:
            copy.done.set()

    def take(self, options: dict[str, Any]) -> dict[str, Any]:
        """Waits for the copy and makes it durable. StateError: it could not be made."""
        copy = self._of(options)
        while not copy.done.wait(0.5):
            self._of(options)  # it may have been given up meanwhile
        if copy.problem:
            raise StateError(
                f"the copy could not be made: {copy.problem}", remedy="see to it, then cut again; following goes on"
            )
        sync(copy.aside)
        return copy.result

    def keep(self, options: dict[str, Any]) -> dict[str, Any]:
        """The source is sure that everything had arrived: the copy gets its name."""
        copy = self._of(options)
        os.rename(copy.aside, copy.to)
        sync(copy.to.parent)
        with self._lock:
            del self._waiting[str(options["id"])]
        return {}

    def _of(self, options: dict[str, Any]) -> Copy:
        with self._lock:
            copy = self._waiting.get(str(options["id"]))
        if copy is None:
            raise StateError("this copy is not being made (any more)", remedy="cut again")
        return copy

    def drop(self, options: dict[str, Any]) -> dict[str, Any]:
        """It is not wanted (any more)."""
        with self._lock:
            copy = self._waiting.pop(str(options["id"]), None)
        if copy is not None:
            copy.done.wait(1)  # not while it is being made: the rest goes with the next one
            remove(copy.aside)
        return {}


class Cloner(Copier):
    """Counts what it did: ``reflinked`` and ``copied`` files, ``bytes`` of the latter."""

    def __init__(self) -> None:
        self.reflinked = self.copied = self.bytes = 0

    def copy(self, from_fd: int, name: bytes, to_fd: int, to: bytes, links: Links) -> Sum:
        st = os.stat(name, dir_fd=from_fd, follow_symlinks=False)
        if not stat.S_ISSOCK(st.st_mode):
            return super().copy(from_fd, name, to_fd, to, links)
        os.mknod(to, stat.S_IFSOCK | 0o600, dir_fd=to_fd)
        self.attributes(from_fd, name, to_fd, to, st)
        return Sum(1, 0)

    def fill(self, old: int, new: int) -> None:
        size = os.fstat(old).st_size
        try:
            clone_range(new, old, 0, 0, 0)
            self.reflinked += 1
            return
        except OSError as error:
            if error.errno not in UNABLE:
                raise
        self.copied += 1
        for offset, length in data_extents(old, size):
            self._some(old, new, offset, length)
        os.ftruncate(new, size)

    def _some(self, old: int, new: int, offset: int, length: int) -> None:
        os.lseek(new, offset, os.SEEK_SET)
        end = offset + length
        while offset < end:
            try:
                done = os.copy_file_range(old, new, end - offset, offset)
            except OSError as error:
                if error.errno not in UNABLE:
                    raise
                done = os.write(new, os.pread(old, min(1 << 20, end - offset), offset))
            if not done:
                return
            offset += done
            self.bytes += done


def copy_tree(copier: Cloner, line: Map, to: Path) -> int:
    """One map's replica, without what is Livelift's own, in ``to`` at the place that its tree has on the source. The
    number of files."""
    place = os.fsencode(to) + b"/" + line.source.strip(b"/")
    os.makedirs(os.path.dirname(place.rstrip(b"/")), mode=0o755, exist_ok=True)
    if not os.path.isdir(place):
        os.mkdir(place, 0o700)
    links: Links = {}
    files = 0
    from_fd = os.open(line.target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        to_fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            device = os.fstat(from_fd).st_dev
            for entry in sorted(map(os.fsencode, os.listdir(from_fd))):
                st = os.stat(entry, dir_fd=from_fd, follow_symlinks=False)
                if entry == OURS or (stat.S_ISDIR(st.st_mode) and st.st_dev != device):
                    continue
                files += copier.copy(from_fd, entry, to_fd, entry, links).files
            copier.attributes(from_fd, b".", to_fd, b".", os.fstat(from_fd))
        finally:
            os.close(to_fd)
    finally:
        os.close(from_fd)
    return files


def remove(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        log.error("%s was not removed: %s", path, error)


def sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs(fd)
    finally:
        os.close(fd)
