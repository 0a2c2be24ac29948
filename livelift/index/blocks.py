"""The digests of the blocks of big files, as the target has them: a table of the tree index."""

from __future__ import annotations

import sqlite3

from livelift.merge.blocks import DIGEST
from livelift.model.record import Kind, Range, Reflink

SCHEMA = "CREATE TABLE IF NOT EXISTS blocks (oid INTEGER PRIMARY KEY, block INTEGER NOT NULL, digests BLOB NOT NULL);"
_UNKNOWN = b"\xff" * DIGEST  # a digest that no block has


class Blocks:
    """Part of `livelift.index.tree.TreeIndex`."""

    _db: sqlite3.Connection

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
            with self._db.blobopen("blocks", "digests", oid) as blob:
                blob.seek(first * DIGEST)
                blob.write(digests[:room])

    def drop_blocks(self, oid: int) -> None:
        self._db.execute("DELETE FROM blocks WHERE oid=?", (oid,))

    def spoil(self, oid: int, first: int, end: int) -> None:
        """The digests of the blocks that hold these bytes are not known any more."""
        row = self._db.execute("SELECT block, length(digests) FROM blocks WHERE oid=?", (oid,)).fetchone()
        if row is None:
            return
        block, length = row
        start, stop = first // block * DIGEST, min(-(-end // block) * DIGEST, length)
        if start < stop:
            with self._db.blobopen("blocks", "digests", oid) as digests:
                digests.seek(start)
                digests.write(_UNKNOWN * ((stop - start) // DIGEST))

    def wrote(self, kind: Kind, body: Range | Reflink) -> None:
        """An in-kernel mode's record changed the target's content without a reading: the size follows, the digests of
        the blocks that it touched are unknown, and the stamp is not trusted. Else a file that went A, B, A, or grew and
        was cut again, would look unchanged to the next reading."""
        oid, first, end = body.oid, body.offset, body.offset + body.length
        size, value = "max(size, ?)", end
        if kind is Kind.TRUNCATE:
            size, value, end = "?", body.offset, 1 << 62
        elif kind is Kind.COLLAPSE or kind is Kind.INSERT:
            size, value, end = "size + ?", -body.length if kind is Kind.COLLAPSE else body.length, 1 << 62
        elif kind is Kind.PUNCH or (isinstance(body, Range) and body.flags):
            value = 0
        self._db.execute(f"UPDATE entry SET size={size}, ctime=0 WHERE oid=? AND size>=0", (value, oid))
        self.spoil(oid, first, end)
