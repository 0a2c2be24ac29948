"""Hard links of a scanned tree: which names lead to one object. A group may span directories, so it is compared on
its own.

The comparable form is one row per name but the first of its group: (path, label), where the label is the smallest
path of the group *inside the map* (names outside do not count, so the link count of an inode says nothing). Only
names of objects with a link count above one are kept, in a SQLite file that the kernel forgets when it is closed, so
memory stays bounded on a backup server with thirty million links.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from threading import Lock

import msgspec
from blake3 import blake3

from livelift.errors import StoreError
from livelift.verify.manifest import join

LinkRow = tuple[bytes, bytes]
"""(path, smallest path of its group), both below the map's root."""


class LinkTable:
    """One side's groups during one verification. Methods may be called from any thread, one at a time.

    Raises StoreError if the temporary file cannot be written ($SQLITE_TMPDIR, /var/tmp, /tmp;
    sqlite.org/tempfiles.html).
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._with_links: set[tuple[int, bytes]] = set()  # directories; most have none, and need no statement
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute(
            "CREATE TABLE names (map INTEGER, path BLOB, directory BLOB, device BLOB, inode BLOB,"
            " PRIMARY KEY (map, path)) WITHOUT ROWID"
        )
        self._db.execute("CREATE INDEX by_object ON names (map, device, inode, path)")
        self._db.execute("CREATE INDEX by_directory ON names (map, directory)")

    def put(self, map_index: int, directory: bytes, names: Iterable[tuple[bytes, int, int]]) -> None:
        """All (name, st_dev, st_ino) of one directory whose objects have several links; replaces what was known of
        it."""
        rows = [
            (map_index, join(directory, name), directory, device.to_bytes(8, "big"), inode.to_bytes(8, "big"))
            for name, device, inode in names
        ]
        with self._lock:
            if not rows and (map_index, directory) not in self._with_links:
                return
            self._with_links.add((map_index, directory))
            try:
                self._db.execute("DELETE FROM names WHERE map = ? AND directory = ?", (map_index, directory))
                self._db.executemany("INSERT OR REPLACE INTO names VALUES (?,?,?,?,?)", rows)
            except sqlite3.Error as error:
                raise StoreError(f"link table: {error}") from error

    def clear(self) -> None:
        with self._lock:
            self._with_links.clear()
            self._db.execute("DELETE FROM names")

    def rows(self, map_index: int, after: bytes = b"") -> Iterator[LinkRow]:
        """Rows with a path greater than ``after``, in byte order of the path. The table must not change meanwhile."""
        while True:
            with self._lock:
                try:
                    page = self._db.execute(_PAGE, {"map": map_index, "after": after}).fetchall()
                except sqlite3.Error as error:
                    raise StoreError(f"link table: {error}") from error
            yield from page
            if len(page) < _PAGE_ROWS:
                return
            after = page[-1][0]

    def digest(self, map_index: int) -> bytes:
        """BLAKE3-256 over all rows: equal digests, equal partitions."""
        whole = blake3()
        for row in self.rows(map_index):
            whole.update(msgspec.msgpack.encode(row))
        return whole.digest()

    def close(self) -> None:
        self._db.close()


_PAGE_ROWS = 4096
# A page by primary key; the label by the index on the object. Blobs compare with memcmp, as Python compares bytes.
_PAGE = f"""
SELECT path, label FROM (
  SELECT n.path AS path, (SELECT min(g.path) FROM names g
    WHERE g.map = n.map AND g.device = n.device AND g.inode = n.inode) AS label
  FROM names n WHERE n.map = :map AND n.path > :after)
WHERE label <> path ORDER BY path LIMIT {_PAGE_ROWS}
"""
