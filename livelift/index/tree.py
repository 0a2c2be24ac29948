"""The tree index: which (parent, name) leads to which object after the last record, and each object's stamp.

It is the fold of the log: `TreeIndex.apply` is the only thing that changes it, so it can be rebuilt by applying the
spool's records again. SQLite because a million entries must fit into little memory and survive the process; WAL with
``synchronous=NORMAL`` because a lost tail is refolded from the spool, while a torn database is not acceptable.

One table: a hard-linked object has a row a name, each with the object's stamp. Not thread-safe: the source's merge lock
is held around every call.
"""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from livelift.errors import CorruptError
from livelift.index.blocks import SCHEMA, Blocks
from livelift.log.batch import Item
from livelift.log.pages import Page, Row
from livelift.log.segment import REMEDY
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
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
_NEVER = Stamp(-1, 0, 0)  # a stamp that no object has: content not known to be on the target
_Stamps = tuple[int, int, int, int, int, bytes, int]  # mode, size, mtime, ctime of the object at (parent, name, oid)
_WHICH = f"SELECT oid FROM entry WHERE oid IN ({','.join('?' * 64)})"


class Known(NamedTuple):
    """One row: what the log says about a name."""

    name: bytes
    oid: int
    mode: int
    stamp: Stamp

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)


_KNOWN = "name, oid, mode, size, mtime, ctime"


def _known(row: tuple[bytes, int, int, int, int, int]) -> Known:
    return Known(row[0], row[1], row[2], Stamp(*row[3:]))


class TreeIndex(Blocks):
    """See the module docstring. Implements `livelift.ports.TreeView`."""

    def __init__(self, path: bytes) -> None:
        self._db = sqlite3.connect(
            path.decode("utf-8", "surrogateescape"), check_same_thread=False, isolation_level=None
        )
        try:
            self._db.executescript(
                "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
                "PRAGMA cache_size=-16384; PRAGMA wal_autocheckpoint=4000;" + _SCHEMA + SCHEMA
            )
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise CorruptError(f"index {path.decode('utf-8', 'replace')}: {error}", remedy=REMEDY) from error
        self._db.execute("BEGIN")
        # Directories lately asked for or made, as the table has them: a walk asks four times for each. Emptied whenever
        # names change, and by every commit.
        self._directories: dict[int, tuple[int, Known]] = {}
        self.lsn = self.meta("lsn")
        self.count = int(self._db.execute("SELECT count(*) FROM entry").fetchone()[0])

    # -- questions ---------------------------------------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes) -> int:
        row = self._db.execute("SELECT oid FROM entry WHERE parent=? AND name=?", (parent, name)).fetchone()
        return int(row[0]) if row else 0

    def known(self, parent: int, name: bytes) -> Known | None:
        sql = f"SELECT {_KNOWN} FROM entry WHERE parent=? AND name=?"
        row = self._db.execute(sql, (parent, name)).fetchone()
        return _known(row) if row else None

    def places(self, oid: int) -> list[tuple[int, bytes]]:
        return self._db.execute("SELECT parent, name FROM entry WHERE oid=?", (oid,)).fetchall()

    def place(self, oid: int) -> tuple[int, bytes] | None:
        if found := self._directories.get(oid):
            return found[0], found[1].name
        return next(self._db.execute("SELECT parent, name FROM entry WHERE oid=? LIMIT 1", (oid,)), None)

    def which(self, oids: list[int]) -> set[int]:
        """Those of the objects that the index knows."""
        found: set[int] = set()
        for i in range(0, len(oids), 64):
            part = oids[i : i + 64]
            part += part[:1] * (64 - len(part))  # always the same statement: making one costs more than 64 answers
            found.update(row[0] for row in self._db.execute(_WHICH, part))
        return found

    def of(self, oid: int) -> Known | None:
        found = self.entry(oid)
        return found[1] if found else None

    def entry(self, oid: int) -> tuple[int, Known] | None:
        """(parent, what the log says) of the object's first place."""
        if found := self._directories.get(oid):
            return found
        row = self._db.execute(f"SELECT parent, {_KNOWN} FROM entry WHERE oid=? LIMIT 1", (oid,)).fetchone()
        if not row:
            return None
        found = row[0], _known(row[1:])
        if found[1].is_dir:
            self._directories[oid] = found
        return found

    def is_dir(self, oid: int) -> bool:
        return self.type_of(oid) == stat.S_IFDIR

    def type_of(self, oid: int) -> int:
        found = self.entry(oid)
        return stat.S_IFMT(found[1].mode) if found else 0

    def children(self, parent: int) -> Iterator[tuple[bytes, int]]:
        for row in self.listing(parent):
            yield row.name, row.oid

    def listing(self, parent: int, page: int = 1024) -> Iterator[Known]:
        """All children in name order. Reads in pages, so the index may change between two of them."""
        last: bytes | None = None
        while True:
            rows = self._db.execute(
                f"SELECT {_KNOWN} FROM entry WHERE parent=?"
                + ("" if last is None else " AND name>?")
                + " ORDER BY name LIMIT ?",
                (parent, page) if last is None else (parent, last, page),
            ).fetchall()
            for row in rows:
                yield _known(row)
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

    def apply(self, records: Iterable[Item]) -> None:
        """Fold records in, in LSN order. Records at or below ``lsn`` have been folded before and are skipped."""
        fresh: list[Row] = []
        stamps: list[_Stamps] = []
        for record in records:
            if record.lsn and record.lsn <= self.lsn:
                continue
            if isinstance(record, Page):
                self._page(record, fresh, stamps)
                continue
            kind, body = record.kind, record.body
            if kind is Kind.BASE_FILE or kind is Kind.FILE:
                assert isinstance(body, BaseFile)
                a = body.attributes
                stamp = _NEVER if record.elided else stamp_of(a)
                if kind is Kind.FILE:  # mostly a known one, written anew
                    stamps.append((a.mode, *stamp, body.parent, body.name, body.oid))
                elif a.nlink == 1:
                    fresh.append((body.parent, body.name, body.oid, a.mode, *stamp))
                else:
                    self._flush(fresh, stamps)
                    self._insert((body.parent, body.name, body.oid, a.mode, *stamp))
                    self._stamp(body.oid, a.mode, stamp)
            elif isinstance(body, Make):
                # A regular file that was only created has no content yet: its stamp says so until content arrives.
                a = body.attributes
                stamp = _NEVER if a.is_file or a.is_dir else stamp_of(a)
                fresh.append((body.parent, body.name, body.oid, a.mode, *stamp))
                if a.is_dir:
                    self._directories[body.oid] = body.parent, Known(body.name, body.oid, a.mode, stamp)
            elif isinstance(body, SetAttributes) and body.attributes.is_dir:
                a = body.attributes
                stamps.append((a.mode, *stamp_of(a), body.parent, body.name, body.oid))
                self._directories.pop(body.oid, None)
            else:
                self._flush(fresh, stamps)
                self._one(record)
            if record.lsn:
                self.lsn = record.lsn
        self._flush(fresh, stamps)

    def refold(self, records: Iterable[Record]) -> None:
        """Fold what the spool has beyond the last commit, after a crash. Block digests were not saved with it: they are
        dropped for every object whose content it touches (else A, B, A again would look unchanged)."""
        for record in records:
            if record.lsn > self.lsn:
                self.apply([record])
                if isinstance(record.body, Range) and Kind.WRITE <= record.kind < Kind.REFLINK:
                    self.wrote(record.kind, record.body)
                if isinstance(record.body, Range | Reflink) or record.kind is Kind.FILE:
                    self.drop_blocks(getattr(record.body, "oid", 0))

    def _page(self, page: Page, fresh: list[Row], stamps: list[_Stamps]) -> None:
        fresh += page.rows
        if page.linked:
            self._flush(fresh, stamps)
            for _, _, oid, mode, *stamp in page.rows:
                if oid in page.linked:  # its other names
                    self._stamp(oid, mode, stamp)
        if page.lsn:
            self.lsn = page.lsn + page.count - 1

    def _flush(self, rows: list[Row], stamps: list[_Stamps]) -> None:
        if rows:
            cursor = self._db.executemany("INSERT OR REPLACE INTO entry VALUES (?,?,?,?,?,?,?)", rows)
            self.count += cursor.rowcount
            rows.clear()
        if stamps:
            sql = "UPDATE entry SET mode=?, size=?, mtime=?, ctime=? WHERE parent=? AND name=? AND oid=?"
            if self._db.executemany(sql, stamps).rowcount < len(stamps):  # some are not known, or not by this name
                for mode, size, mtime, ctime, parent, name, oid in stamps:
                    if not self._stamp(oid, mode, (size, mtime, ctime)) and stat.S_ISREG(mode):
                        self._insert((parent, name, oid, mode, size, mtime, ctime))
            stamps.clear()

    def _insert(self, row: Row) -> None:
        self._db.execute("INSERT OR REPLACE INTO entry VALUES (?,?,?,?,?,?,?)", row)
        self.count += 1

    def _one(self, record: Record) -> None:
        body, kind = record.body, record.kind
        match body:
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
                    self._directories.pop(body.oid, None)
                    self._db.execute("UPDATE entry SET mode=? WHERE oid=?", (body.mode, body.oid))
            case Gap():
                if kind is Kind.GAP and body.oid:
                    self.forget(body.oid)
            case _:
                if record.elided and hasattr(body, "oid"):
                    self.forget(body.oid)

    def _stamp(self, oid: int, mode: int, stamp: Sequence[int]) -> bool:
        """False if the object is not known."""
        done = self._db.execute("UPDATE entry SET mode=?, size=?, mtime=?, ctime=? WHERE oid=?", (mode, *stamp, oid))
        return done.rowcount > 0

    def _remove(self, parent: int, name: bytes) -> None:
        self._directories.clear()
        oid = self.lookup(parent, name)
        if not oid:
            return
        self._db.execute("DELETE FROM entry WHERE parent=? AND name=?", (parent, name))
        self.count -= 1
        if self.place(oid) is None:
            self._db.execute("DELETE FROM blocks WHERE oid=?", (oid,))

    def _rename(self, body: Rename) -> None:
        self._directories.clear()
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
        self._directories.pop(oid, None)
        self._db.execute("UPDATE entry SET size=?, mtime=?, ctime=? WHERE oid=?", (*_NEVER, oid))
        self._db.execute("DELETE FROM blocks WHERE oid=?", (oid,))

    def set_racy(self, oid: int) -> None:
        """The object may change again without a new ctime: a rescan must not trust its stamp."""
        self._directories.pop(oid, None)
        self._db.execute("UPDATE entry SET ctime=0 WHERE oid=?", (oid,))

    def empty(self, oid: int) -> None:
        """A file that was just made: the target has all of its content, which is none. Its stamp is not trusted."""
        self._db.execute("UPDATE entry SET size=0, ctime=0 WHERE oid=?", (oid,))

    def unsure_of(self, oid: int) -> bool:
        known = self.of(oid)
        return known is not None and known.stamp.size < 0

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
        self._directories.clear()
        self._db.execute("DELETE FROM entry")
        self._db.execute("DELETE FROM blocks")
        self.count = 0
        self.lsn = lsn

    def commit(self) -> None:
        """Only after the spool is synced up to ``lsn``: the index must never know more than the log."""
        self._directories.clear()
        self.set_meta("lsn", self.lsn)
        self._db.execute("COMMIT")
        self._db.execute("BEGIN")

    def close(self) -> None:
        self._db.rollback()
        self._db.close()
