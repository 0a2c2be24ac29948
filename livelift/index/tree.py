"""The tree index: which (parent, name) leads to which object after the last record, and each object's stamp.

It is the fold of the log: `TreeIndex.apply` is the only thing that changes it, so it can be rebuilt by applying the
spool's records again. SQLite because a million entries must fit into little memory and survive the process; WAL with
``synchronous=NORMAL`` because a lost tail is refolded from the spool, while a torn database is not acceptable.

One table: a hard-linked object has a row a name, each with the object's stamp. The source's merge lock is held around
every change, and around questions that have to fit together; a single one may be asked by any thread.
"""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from livelift.errors import CorruptError
from livelift.index.database import Database
from livelift.index.growth import changes
from livelift.index.untimed import Untimed
from livelift.log.segment import REMEDY
from livelift.merge.blocks import DIGEST
from livelift.model.entry import Stamp, stamp_of
from livelift.model.record import (
    BaseFile,
    Changed,
    Gap,
    Kind,
    Link,
    Make,
    Range,
    Record,
    Reflink,
    Rename,
    SetAttributes,
    Unlink,
)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
  parent INTEGER NOT NULL, name BLOB NOT NULL, oid INTEGER NOT NULL, mode INTEGER NOT NULL,
  size INTEGER NOT NULL, mtime INTEGER NOT NULL, ctime INTEGER NOT NULL,
  PRIMARY KEY (parent, name)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entry_oid ON entry (oid);
CREATE TABLE IF NOT EXISTS blocks (oid INTEGER PRIMARY KEY, block INTEGER NOT NULL, digests BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
_NEVER = Stamp(-1, 0, 0)  # a stamp that no object has: content not known to be on the target
_UNKNOWN = b"\xff" * DIGEST  # a digest that no block has


class Known(NamedTuple):
    """One row: what the log says about a name."""

    name: bytes
    oid: int
    mode: int
    stamp: Stamp

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)


class TreeIndex:
    """See the module docstring. Implements `livelift.ports.TreeView`."""

    def __init__(self, path: bytes) -> None:
        self._db = Database(path.decode("utf-8", "surrogateescape"))
        try:
            self._db.executescript(
                "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
                "PRAGMA cache_size=-16384; PRAGMA wal_autocheckpoint=4000;" + _SCHEMA
            )
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise CorruptError(f"index {path.decode('utf-8', 'replace')}: {error}", remedy=REMEDY) from error
        self._db.execute("BEGIN")
        self.lsn = self.meta("lsn")
        self.count = int(self._db.execute("SELECT count(*) FROM entry").fetchone()[0])
        self.untimed = Untimed()

    # -- questions ---------------------------------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes) -> int:
        row = self._db.execute("SELECT oid FROM entry WHERE parent=? AND name=?", (parent, name)).fetchone()
        return int(row[0]) if row else 0

    def known(self, parent: int, name: bytes) -> Known | None:
        row = self._db.execute(
            "SELECT name, oid, mode, size, mtime, ctime FROM entry WHERE parent=? AND name=?", (parent, name)
        ).fetchone()
        return Known(row[0], row[1], row[2], Stamp(*row[3:])) if row else None

    def places(self, oid: int) -> list[tuple[int, bytes]]:
        return self._db.execute("SELECT parent, name FROM entry WHERE oid=?", (oid,)).fetchall()

    def place(self, oid: int) -> tuple[int, bytes] | None:
        row: tuple[int, bytes] | None = self._db.execute(
            "SELECT parent, name FROM entry WHERE oid=? LIMIT 1", (oid,)
        ).fetchone()
        return row

    def which(self, oids: list[int]) -> set[int]:
        """Those of the objects that the index knows."""
        found: set[int] = set()
        for i in range(0, len(oids), 500):
            part = oids[i : i + 500]
            marks = ",".join("?" * len(part))
            found.update(r[0] for r in self._db.execute(f"SELECT oid FROM entry WHERE oid IN ({marks})", part))
        return found

    def of(self, oid: int) -> Known | None:
        row = self._db.execute(
            "SELECT name, oid, mode, size, mtime, ctime FROM entry WHERE oid=? LIMIT 1", (oid,)
        ).fetchone()
        return Known(row[0], row[1], row[2], Stamp(*row[3:])) if row else None

    def entry(self, oid: int) -> tuple[int, Known] | None:
        """(parent, what the log says) of the object's first place."""
        row = self._db.execute(
            "SELECT parent, name, oid, mode, size, mtime, ctime FROM entry WHERE oid=? LIMIT 1", (oid,)
        ).fetchone()
        return (row[0], Known(row[1], row[2], row[3], Stamp(*row[4:]))) if row else None

    def is_dir(self, oid: int) -> bool:
        row = self._db.execute("SELECT mode FROM entry WHERE oid=? LIMIT 1", (oid,)).fetchone()
        return bool(row) and stat.S_ISDIR(row[0])

    def type_of(self, oid: int) -> int:
        row = self._db.execute("SELECT mode FROM entry WHERE oid=? LIMIT 1", (oid,)).fetchone()
        return stat.S_IFMT(row[0]) if row else 0

    def children(self, parent: int) -> Iterator[tuple[bytes, int]]:
        for row in self.listing(parent):
            yield row.name, row.oid

    def listing(self, parent: int, page: int = 1024) -> Iterator[Known]:
        """All children in name order. Reads in pages, so the index may change between two of them."""
        last: bytes | None = None
        while True:
            rows = self._db.execute(
                "SELECT name, oid, mode, size, mtime, ctime FROM entry WHERE parent=?"
                + ("" if last is None else " AND name>?")
                + " ORDER BY name LIMIT ?",
                (parent, page) if last is None else (parent, last, page),
            ).fetchall()
            for row in rows:
                yield Known(row[0], row[1], row[2], Stamp(*row[3:]))
            if len(rows) < page:
                return
            last = rows[-1][0]

    def has_children(self, parent: int) -> bool:
        return self._db.execute("SELECT 1 FROM entry WHERE parent=? LIMIT 1", (parent,)).fetchone() is not None

    def path(self, oid: int) -> list[bytes] | None:
        """Names from the map's root ([b"<map index>", ...]) to the object, by its first place; None if it has none."""
        names: list[bytes] = []
        seen: set[int] = set()
        while oid > 0:
            place = self.place(oid)
            if place is None or oid in seen:
                return None
            seen.add(oid)
            names.append(place[1])
            oid = place[0]
        if oid < 0:
            names.append(b"limbo")
        return names[::-1]

    # -- the fold ----------------------------------------------------------------------------------------------------

    def apply(self, records: Iterable[Record]) -> None:
        """Fold records in, in LSN order. Records at or below ``lsn`` have been folded before and are skipped."""
        fresh: list[tuple[int, bytes, int, int, int, int, int]] = []
        for record in records:
            if record.lsn and record.lsn <= self.lsn:
                continue
            kind, body = record.kind, record.body
            if kind is Kind.BASE_FILE or kind is Kind.FILE:
                assert isinstance(body, BaseFile)
                a = body.attributes
                stamp = _NEVER if record.elided else stamp_of(a)
                if kind is Kind.FILE and self._stamp(body.oid, a.mode, stamp):
                    pass  # a known one, written anew
                elif a.nlink == 1:
                    self.untimed.add(body.parent)
                    fresh.append((body.parent, body.name, body.oid, a.mode, *stamp))
                else:
                    self.untimed.add(body.parent)
                    self._flush(fresh)
                    self._insert((body.parent, body.name, body.oid, a.mode, *stamp))
                    self._stamp(body.oid, a.mode, stamp)
            else:
                self._flush(fresh)
                self._one(record)
            if record.lsn:
                self.lsn = record.lsn
        self._flush(fresh)

    def refold(self, records: Iterable[Record]) -> None:
        """Fold what the spool has beyond the last commit, after a crash. Block digests were not saved with these
        records:
        they are dropped for every object whose content they touch (else A, B, A again would look unchanged)."""
        for record in records:
            if record.lsn > self.lsn:
                self.apply([record])
                if isinstance(record.body, Range) and Kind.WRITE <= record.kind < Kind.REFLINK:
                    self.wrote([(record.kind, record.body)])
                if isinstance(record.body, Range | Reflink) or record.kind is Kind.FILE:
                    self.drop_blocks(getattr(record.body, "oid", 0))

    def _flush(self, rows: list[tuple[int, bytes, int, int, int, int, int]]) -> None:
        if rows:
            cursor = self._db.executemany("INSERT OR REPLACE INTO entry VALUES (?,?,?,?,?,?,?)", rows)
            self.count += cursor.rowcount
            rows.clear()

    def _insert(self, row: tuple[int, bytes, int, int, int, int, int]) -> None:
        self._db.execute("INSERT OR REPLACE INTO entry VALUES (?,?,?,?,?,?,?)", row)
        self.count += 1

    def _one(self, record: Record) -> None:
        body, kind = record.body, record.kind
        self.untimed.fold(kind, body)
        match body:
            case Make():
                # A regular file that was only created has no content yet: its stamp says so until content arrives.
                a = body.attributes
                stamp = _NEVER if a.is_file or a.is_dir else stamp_of(a)
                self._insert((body.parent, body.name, body.oid, a.mode, *stamp))
            case BaseFile():  # BEGIN: not valid before its END
                a = body.attributes
                stamp = stamp_of(a) if kind is Kind.BASE_END else _NEVER
                if kind is Kind.BASE_BEGIN:
                    self._insert((body.parent, body.name, body.oid, a.mode, *stamp))
                self._stamp(body.oid, a.mode, stamp)
            case Link():
                old = self.of(body.oid)
                if old is not None:
                    self._insert((body.parent, body.name, body.oid, old.mode, *old.stamp))
            case Unlink():
                self._remove(body.parent, body.name)
            case Rename():
                self._rename(body)
            case SetAttributes():
                a = body.attributes
                self._stamp(body.oid, a.mode, stamp_of(a))
            case Changed():
                if body.mode is not None:
                    self._db.execute("UPDATE entry SET mode=? WHERE oid=?", (body.mode, body.oid))
            case Gap():
                if kind is Kind.GAP and body.oid:
                    self.forget(body.oid)
            case _:
                if record.elided and hasattr(body, "oid"):
                    self.forget(body.oid)

    def _stamp(self, oid: int, mode: int, stamp: tuple[int, int, int]) -> bool:
        """False if the object is not known."""
        done = self._db.execute("UPDATE entry SET mode=?, size=?, mtime=?, ctime=? WHERE oid=?", (mode, *stamp, oid))
        return done.rowcount > 0

    def _remove(self, parent: int, name: bytes) -> None:
        oid = self.lookup(parent, name)
        if not oid:
            return
        self._db.execute("DELETE FROM entry WHERE parent=? AND name=?", (parent, name))
        self.count -= 1
        if self.place(oid) is None:
            self._db.execute("DELETE FROM blocks WHERE oid=?", (oid,))

    def _rename(self, body: Rename) -> None:
        old, new = self.known(body.parent, body.name), self.known(body.new_parent, body.new_name)
        if old is None:
            return
        if body.flags & 2 and new is not None:  # RENAME_EXCHANGE
            self._remove_row(body.new_parent, body.new_name)
            self._insert((body.parent, body.name, new.oid, new.mode, *new.stamp))
            self._insert((body.new_parent, body.new_name, old.oid, old.mode, *old.stamp))
            self.count -= 1
            return
        if new is not None:
            self._remove(body.new_parent, body.new_name)
        self._db.execute(
            "UPDATE entry SET parent=?, name=? WHERE parent=? AND name=?",
            (body.new_parent, body.new_name, body.parent, body.name),
        )

    def _remove_row(self, parent: int, name: bytes) -> None:
        self._db.execute("DELETE FROM entry WHERE parent=? AND name=?", (parent, name))
        self.count -= 1

    # -- stamps, block digests, persistence --------------------------------------------------------------------------

    def forget(self, oid: int) -> None:
        """The content on the target is not to be relied on: the next look reads the whole object."""
        self._db.execute("UPDATE entry SET size=?, mtime=?, ctime=? WHERE oid=?", (*_NEVER, oid))
        self._db.execute("DELETE FROM blocks WHERE oid=?", (oid,))

    def set_racy(self, oid: int) -> None:
        """The object may change again without a new ctime: a rescan must not trust its stamp."""
        self._db.execute("UPDATE entry SET ctime=0 WHERE oid=?", (oid,))

    def empty(self, oid: int) -> None:
        """A file that was just made: the target has all of its content, which is none. Its stamp is not trusted."""
        self._db.execute("UPDATE entry SET size=0, ctime=0 WHERE oid=?", (oid,))

    def unsure_of(self, oid: int) -> bool:
        known = self.of(oid)
        return known is not None and known.stamp.size < 0

    def blocks(self, oid: int) -> tuple[int, bytes] | None:
        """(block size, digests back to back) of the content that the target has; None: not known."""
        row: tuple[int, bytes] | None = self._db.execute(
            "SELECT block, digests FROM blocks WHERE oid=?", (oid,)
        ).fetchone()
        return row

    def set_blocks(self, oid: int, block: int, digests: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO blocks VALUES (?,?,?)", (oid, block, digests))

    def set_digests(self, oid: int, first: int, digests: bytes) -> None:
        """Of blocks from ``first`` on; what is beyond the row that `set_blocks` has made is left out."""
        row = self._db.execute("SELECT length(digests) FROM blocks WHERE oid=?", (oid,)).fetchone()
        room = row[0] - first * DIGEST if row else 0
        if room > 0:
            self._db.write_blob("blocks", "digests", oid, [(first * DIGEST, digests[:room])])

    def drop_blocks(self, oid: int) -> None:
        self._db.execute("DELETE FROM blocks WHERE oid=?", (oid,))

    def wrote(self, told: Iterable[tuple[Kind, Range | Reflink]]) -> None:
        """Records of an in-kernel mode, in order, changed the target's content without a reading: the size follows, the
        digests of the blocks that they touched are unknown, and the stamp is not trusted. Else a file that went A, B,
        A, or grew and was cut again, would look unchanged to the next reading."""
        for oid, size, value, spans in changes(told):
            self._db.execute(f"UPDATE entry SET size={size}, ctime=0 WHERE oid=? AND size>=0", (value, oid))
            row = self._db.execute("SELECT block, length(digests) FROM blocks WHERE oid=?", (oid,)).fetchone()
            if row is not None:
                block, length = row
                ends = [(first // block * DIGEST, min(-(-end // block) * DIGEST, length)) for first, end in spans]
                parts = [(start, _UNKNOWN * ((stop - start) // DIGEST)) for start, stop in ends if start < stop]
                if parts:
                    self._db.write_blob("blocks", "digests", oid, parts)

    def meta(self, key: str) -> int:
        row = self._db.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return int(row[0]) if row else 0

    def set_meta(self, key: str, value: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?,?)", (key, value))

    def unsure(self) -> list[int]:
        """Regular files whose content is not known to be on the target."""
        return [
            row[0]
            for row in self._db.execute(
                "SELECT DISTINCT oid FROM entry WHERE size=-1 AND (mode & 61440) = ?", (stat.S_IFREG,)
            )
        ]

    def clear(self, lsn: int) -> None:
        """Know nothing, as of ``lsn``."""
        self.untimed.clear()
        self._db.execute("DELETE FROM entry")
        self._db.execute("DELETE FROM blocks")
        self.count = 0
        self.lsn = lsn

    def commit(self) -> None:
        """Only after the spool is synced up to ``lsn``: the index must never know more than the log. What is untimed
        outlives the process as a stamp that is not trusted."""
        self._db.executemany("UPDATE entry SET ctime=0 WHERE oid=?", [(oid,) for oid in self.untimed])
        self.set_meta("lsn", self.lsn)
        self._db.execute("COMMIT")
        self._db.execute("BEGIN")

    def close(self) -> None:
        self._db.close()
