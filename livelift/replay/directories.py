"""The map of directories: object id to (parent, name), on SQLite, with a bounded cache of open directory descriptors.

Only directories are mapped: every record carries (parent id, name), so files need no entry. Each directory is opened
from its parent's descriptor, one component at a time and never through a symlink, so nothing in a log leads out of
the replica, and no path is ever longer than one name.

The map on disk is always that of the last checkpoint: one transaction is open from checkpoint to checkpoint. After a
crash the records since then are folded into it again. Used by one thread.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Sequence
from typing import Final

from livelift.errors import CorruptError, UsageError, WireError
from livelift.model.job import Map
from livelift.platform.linux import inode_flags
from livelift.replay.trouble import Disagreement

OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OURS: Final = b".livelift"
"""Livelift's own directory at the top of every map on the target: limbo and progress marks. Gone at the cut."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS directory (oid INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
"""
_DEPTH = 100_000  # directories on one path; more can only be a cycle, which no honest log makes


class Directory:
    """An open directory. ``plain``: a new object in it inherits nothing (no set-gid, default ACL, flags)."""

    __slots__ = ("_plain", "dev", "fd", "oid", "used")

    def __init__(self, oid: int, fd: int) -> None:
        self.oid = oid
        self.fd = fd
        self.dev = os.fstat(fd).st_dev
        self.used = 0  # number of the group of records that used it last
        self._plain: bool | None = None

    @property
    def plain(self) -> bool:
        if self._plain is None:
            self._plain = not (
                os.fstat(self.fd).st_mode & 0o2000
                or inode_flags.get_flags(self.fd) & inode_flags.SETTABLE
                or _has_default_acl(self.fd)
            )
        return self._plain

    def look(self) -> None:
        """What its children inherit may have changed: found out anew when the next one is made."""
        self._plain = None


def _has_default_acl(fd: int) -> bool:
    try:
        os.getxattr(fd, "system.posix_acl_default")
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return False
        raise
    return True


def check_name(name: bytes) -> bytes:
    """A name that is one component and stays in its directory; anything else is an attack or a broken peer:
    WireError."""
    if not name or b"/" in name or b"\0" in name or name == b"." or name == b"..":
        raise WireError(f"a record names {name!r}")
    return name


class Directories:
    """``tops``: one open descriptor per map, in order; they stay the caller's."""

    def __init__(self, path: bytes, tops: Sequence[int], limit: int = 512) -> None:
        self._tops = list(tops)
        self._limit = limit
        self._open: dict[int, Directory] = {}  # in order of use
        self._group = 1
        self.in_use = 0  # directories that the running group of records uses
        try:
            self._db = sqlite3.connect(os.fsdecode(path), isolation_level=None, check_same_thread=False)
            self._db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {_SCHEMA} BEGIN")
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise CorruptError(
                f"directory map {os.fsdecode(path)}: {error}", remedy="start the job on this target anew"
            ) from error
        self.roots: dict[int, int] = {
            oid: int(name) for oid, name in self._db.execute("SELECT oid, name FROM directory WHERE parent = 0")
        }

    # the map

    def bind(self, index: int, oid: int) -> None:
        """``oid`` is the root of map number ``index``."""
        if not 0 <= index < len(self._tops):
            raise WireError(f"a record announces the root of map {index}, of {len(self._tops)}")
        for old in [known for known, number in self.roots.items() if number == index and known != oid]:
            self.remove(old)
        self.roots[oid] = index
        self._db.execute("REPLACE INTO directory VALUES (?, 0, ?)", (oid, b"%d" % index))

    def put(self, oid: int, parent: int, name: bytes) -> None:
        if oid in self.roots:
            raise WireError(f"a record moves the root of map {self.roots[oid]}")
        self._db.execute("REPLACE INTO directory VALUES (?, ?, ?)", (oid, parent, name))

    def remove(self, oid: int) -> None:
        self.forget(oid)
        self.roots.pop(oid, None)
        self._db.execute("DELETE FROM directory WHERE oid = ?", (oid,))

    def place(self, oid: int) -> tuple[int, bytes] | None:
        row: tuple[int, bytes] | None = self._db.execute(
            "SELECT parent, name FROM directory WHERE oid = ?", (oid,)
        ).fetchone()
        return row

    def has(self, oid: int) -> bool:
        return oid in self._open or self.place(oid) is not None

    def find(self, parent: int, name: bytes) -> int:
        """The directory under a name, or 0. Reads the whole map: only for an exchange whose log does not tell the
        victim."""
        row = self._db.execute("SELECT oid FROM directory WHERE parent = ? AND name = ?", (parent, name)).fetchone()
        return int(row[0]) if row else 0

    def chain(self, oid: int) -> list[tuple[int, bytes]]:
        """(id, name) from the directory up to, but without, its root or limbo; the last item is (root or limbo,
        b"")."""
        found: list[tuple[int, bytes]] = []
        at = oid
        while at not in self.roots and at >= 0:
            row = self.place(at)
            if row is None:
                raise Disagreement(at or oid, f"no directory {at:#x} is known here")
            if len(found) > _DEPTH:
                raise WireError(f"directory {oid:#x} lies in itself")
            found.append((at, row[1]))
            at = row[0]
        found.append((at, b""))
        return found

    def map_of(self, oid: int) -> int:
        """The number of the map in which a directory lies."""
        top = self.chain(oid)[-1][0]
        return self.roots[top] if top >= 0 else -1 - top

    def path(self, oid: int) -> bytes:
        """For messages only: the path below the map's root."""
        try:
            return b"/".join(reversed([name for _, name in self.chain(oid)[:-1]]))
        except Disagreement:
            return b"?%x" % oid

    # open directories

    def open(self, oid: int) -> Directory:
        """The open directory; stays open until `next_group` has been called. Disagreement if it is not known or not
        there."""
        directory = self._open.get(oid)
        if directory is None:
            directory = self._descend(oid)
        if directory.used != self._group:
            directory.used = self._group
            self.in_use += 1
            del self._open[oid]
            self._open[oid] = directory  # last in order: used last
        return directory

    def _descend(self, oid: int) -> Directory:
        todo: list[tuple[int, bytes]] = []
        at = oid
        while at not in self._open:
            if at in self.roots:
                self._keep(at, os.open(b".", OPEN_DIRECTORY, dir_fd=self._tops[self.roots[at]]))
            elif at < 0:
                if -1 - at >= len(self._tops):
                    raise WireError(f"limbo of map {-1 - at}, of {len(self._tops)}")
                self._keep(at, os.open(OURS + b"/limbo", OPEN_DIRECTORY, dir_fd=self._tops[-1 - at]))
            else:
                row = self.place(at)
                if row is None:
                    raise Disagreement(at or oid, f"no directory {at:#x} is known here")
                todo.append((at, row[1]))
                at = row[0]
                if len(todo) > _DEPTH:
                    raise WireError(f"directory {oid:#x} lies in itself")
        directory = self._open[at]
        for child, name in reversed(todo):
            try:
                fd = os.open(name, OPEN_DIRECTORY, dir_fd=directory.fd)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    raise Disagreement(child, f"directory {name!r}: {error.strerror}") from error
                raise
            directory = self._keep(child, fd)
        return directory

    def _keep(self, oid: int, fd: int) -> Directory:
        try:
            directory = Directory(oid, fd)
        except BaseException:
            os.close(fd)
            raise
        if len(self._open) >= self._limit:
            oldest = next((known for known, at in self._open.items() if at.used != self._group), None)
            if oldest is not None:
                os.close(self._open.pop(oldest).fd)
        self._open[oid] = directory
        return directory

    def next_group(self) -> None:
        """No descriptor from `open` is in use any more."""
        self._group += 1
        self.in_use = 0
        while len(self._open) > self._limit:
            os.close(self._open.pop(next(iter(self._open))).fd)

    def opened(self, oid: int) -> Directory | None:
        """The directory if it is open already."""
        return self._open.get(oid)

    def forget(self, oid: int) -> None:
        """Close its descriptor: the directory is gone, or another one has its id now."""
        directory = self._open.pop(oid, None)
        if directory is not None:
            os.close(directory.fd)

    @property
    def full(self) -> bool:
        """The running group uses as many directories as may be open."""
        return self.in_use >= self._limit - 8

    # durable values

    def get(self, key: str) -> int | str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def set(self, key: str, value: int | str) -> None:
        self._db.execute("REPLACE INTO meta VALUES (?, ?)", (key, value))

    def commit(self) -> None:
        """Make the map and the values durable: in WAL mode with synchronous=NORMAL only the WAL checkpoint syncs."""
        try:
            self._db.execute("COMMIT")
            busy = self._db.execute("PRAGMA wal_checkpoint(FULL)").fetchone()[0]
            if busy:
                raise CorruptError("the directory map is locked by somebody else")
            self._db.execute("BEGIN")
        except sqlite3.OperationalError as error:
            raise CorruptError(f"directory map: {error}", remedy="free space in the state directory") from error

    def rollback(self) -> None:
        """Back to the last commit."""
        self._db.execute("ROLLBACK")
        self._db.execute("BEGIN")

    def close(self) -> None:
        """Without commit: what came after the last one is forgotten, as in a crash."""
        while self._open:
            os.close(self._open.popitem()[1].fd)
        self._db.close()


def open_tops(maps: Sequence[Map]) -> list[int]:
    """A descriptor of every map's target directory, in order. UsageError if one is not there."""
    tops: list[int] = []
    try:
        for item in maps:
            tops.append(os.open(item.target, OPEN_DIRECTORY))
    except OSError as error:
        for top in tops:
            os.close(top)
        raise UsageError(
            f"target directory {os.fsdecode(item.target)}: {error.strerror}", remedy="make it, or correct the mapping"
        ) from error
    return tops
