"""Digest cache: (device, inode) -> the stamp at which an object was read, its attributes and digests. An unchanged
stamp needs no reading.

What makes an unchanged stamp (size, mtime, ctime) mean unchanged content, and where that ends:

* Every write, truncate, attribute change sets ctime, and nobody can set ctime back. But the kernel's clock for it
  moves in ticks (1 to 10 ms; 1 to 2 s on old file systems): a write in the same tick as our reading leaves the stamp
  as it was. So a digest is kept only if ctime was at least two seconds old by that same clock (`stamp_clock`) when
  the reading began; then any later write gets another ctime. (Git calls this the "racy git" problem.)
* A store through a shared writable mapping sets ctime only at the first touch of a clean page. Files that are mapped
  writable are therefore neither looked up nor kept (`Mapped`); a mapping made after the list of them was taken
  touches its first page after that moment, so digests are kept only for files whose ctime is older than the list as
  well.
* After a crash a file can hold older bytes under a newer stamp (ext4 data=ordered does not order overwrites), and
  device numbers can move. So the cache belongs to one boot of the machine and begins empty in the next.

A damaged row can only make equal files look different, which is loud; it cannot make different files look equal.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Final, NamedTuple

from livelift.errors import CorruptError, StoreError
from livelift.platform.system import boot_id
from livelift.verify.directories import Whole

RACY: Final = 2_000_000_000
"""ns; the coarsest time stamps in use are 2 s (FAT), ext3 and NFSv2 have 1 s."""

Key = tuple[int, int]
"""(st_dev, st_ino)"""


class Cached(NamedTuple):
    """The stamp at which an object was read, and what was read."""

    size: int
    mtime: int
    ctime: int
    content: bytes  # empty: not read (not in the sample)
    layout: bytes
    meta: bytes  # `manifest.meta_of`

    def matches(self, seen: os.stat_result) -> bool:
        return self.size == seen.st_size and self.mtime == seen.st_mtime_ns and self.ctime == seen.st_ctime_ns


class Mapped(NamedTuple):
    """Files that are mapped shared and writable by some process: (st_dev, st_ino), and when (`stamp_clock`) the look
    began."""

    files: frozenset[Key]
    taken: int


NOTHING_MAPPED: Final = Mapped(frozenset(), 1 << 63)
"""For a tree that nobody maps: the replica before the take-over, a snapshot."""


def may_keep(seen: os.stat_result, began: int, mapped: Mapped) -> bool:
    """Whether a digest may be kept that was read from ``began`` (`stamp_clock`) on, with ``seen`` before and after."""
    return seen.st_ctime_ns < min(began, mapped.taken) - RACY and (seen.st_dev, seen.st_ino) not in mapped.files


class DigestCache:
    """SQLite file, or ":memory:". May be used from several threads. ``epoch``: what it is valid for; default this boot.

    Raises CorruptError if the file is damaged, StoreError if it cannot be used (disk full, permissions).
    """

    def __init__(self, path: str | bytes = ":memory:", epoch: str | None = None) -> None:
        self._lock = Lock()
        self._pending: dict[Key, Cached] = {}
        self._wholes: dict[Key, Whole] = {}
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        except sqlite3.Error as error:
            raise StoreError(f"digest cache {os.fsdecode(path)}: {error}") from error
        try:
            self._prepare(boot_id() if epoch is None else epoch)
        except sqlite3.Error as error:
            self._db.close()
            raise self._failure(error) from error

    def _prepare(self, epoch: str) -> None:
        # WAL with NORMAL: a power cut may lose the last rows (they are only a cache), but the file stays sound.
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS digests (device INTEGER, inode INTEGER, size INTEGER, mtime INTEGER,"
            " ctime INTEGER, content BLOB, layout BLOB, meta BLOB, PRIMARY KEY (device, inode)) WITHOUT ROWID"
        )
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS directories (device INTEGER, inode INTEGER, stamps BLOB, digest BLOB,"
            " objects INTEGER, files INTEGER, bytes INTEGER, PRIMARY KEY (device, inode)) WITHOUT ROWID"
        )
        known = self._db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        if known != (epoch,):
            self._db.execute("BEGIN")
            self._db.execute("DELETE FROM digests")
            self._db.execute("DELETE FROM directories")
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('epoch', ?)", (epoch,))
            self._db.execute("COMMIT")

    def lookup(self, keys: Sequence[Key]) -> dict[Key, Cached]:
        """What is known of these files, whatever their stamps are now. One query per device and 500 files."""
        found: dict[Key, Cached] = {}
        with self._lock:
            missing: dict[int, list[int]] = {}
            for key in keys:
                if key in self._pending:
                    found[key] = self._pending[key]
                else:
                    missing.setdefault(key[0], []).append(_signed(key[1]))
            for device, inodes in missing.items():
                for start in range(0, len(inodes), 500):
                    part = inodes[start : start + 500]
                    query = f"SELECT * FROM digests WHERE device = ? AND inode IN ({','.join('?' * len(part))})"
                    try:
                        rows = self._db.execute(query, (_signed(device), *part)).fetchall()
                    except sqlite3.Error as error:
                        raise self._failure(error) from error
                    for row in rows:
                        found[device, row[1] & _ALL] = Cached(*row[2:])
        return found

    def store(self, rows: Iterable[tuple[Key, Cached]]) -> None:
        """Keep digests for which `may_keep` holds. Written in batches; ``flush`` writes the rest."""
        with self._lock:
            self._pending.update(rows)
            if len(self._pending) >= 2000:
                self._write()

    def whole(self, key: Key) -> Whole | None:
        """What is kept of a directory, whatever is in it now."""
        with self._lock:
            if key in self._wholes:
                return self._wholes[key]
            query = "SELECT stamps, digest, objects, files, bytes FROM directories WHERE device = ? AND inode = ?"
            try:
                row = self._db.execute(query, (_signed(key[0]), _signed(key[1]))).fetchone()
            except sqlite3.Error as error:
                raise self._failure(error) from error
        return Whole(*row) if row else None

    def store_whole(self, key: Key, whole: Whole) -> None:
        """Of a directory all of whose objects are kept as well."""
        with self._lock:
            self._wholes[key] = whole
            if len(self._wholes) >= 2000:
                self._write()

    def forget(self, key: Key, directory: Key) -> None:
        """An object, and the directory that it is in as a whole."""
        with self._lock:
            self._pending.pop(key, None)
            self._wholes.pop(directory, None)
            try:
                for table, (device, inode) in (("digests", key), ("directories", directory)):
                    where = (_signed(device), _signed(inode))
                    self._db.execute(f"DELETE FROM {table} WHERE device = ? AND inode = ?", where)
            except sqlite3.Error as error:
                raise self._failure(error) from error

    def flush(self) -> None:
        with self._lock:
            self._write()

    def _write(self) -> None:
        rows = [
            (_signed(key[0]), _signed(key[1]), *row)
            for key, row in self._pending.items()
            if abs(row.mtime) < 1 << 63 and abs(row.ctime) < 1 << 63 and row.size < 1 << 63
        ]
        wholes = [(_signed(key[0]), _signed(key[1]), *row) for key, row in self._wholes.items() if row.bytes < 1 << 63]
        try:
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR REPLACE INTO digests VALUES (?,?,?,?,?,?,?,?)", rows)
            self._db.executemany("INSERT OR REPLACE INTO directories VALUES (?,?,?,?,?,?,?)", wholes)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise self._failure(error) from error
        self._pending.clear()
        self._wholes.clear()

    def __len__(self) -> int:
        with self._lock:
            self._write()
            (count,) = self._db.execute("SELECT count(*) FROM digests").fetchone()
        return int(count)

    def clear(self) -> None:
        with self._lock:
            self._pending.clear()
            self._wholes.clear()
            self._db.execute("DELETE FROM digests")
            self._db.execute("DELETE FROM directories")

    def close(self) -> None:
        with self._lock:
            try:
                self._write()
            finally:
                self._db.close()

    @staticmethod
    def _failure(error: sqlite3.Error) -> StoreError:
        if isinstance(error, sqlite3.OperationalError):
            remedy = "free space in the state directory, then start the agent again: it goes on"
            return StoreError(f"digest cache: {error}", remedy=remedy)
        return CorruptError(f"digest cache: {error}", remedy="delete the file; it is only a cache and fills again")


_ALL = (1 << 64) - 1


def _signed(number: int) -> int:
    """SQLite integers are signed; overlayfs with xino uses the top bit of inode numbers."""
    return number - (1 << 64) if number >> 63 else number
