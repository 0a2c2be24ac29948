"""One SQLite connection that several threads ask.

From Python 3.12 on two threads that execute the same text at the same moment may be given one prepared statement: the
cache of the connection asks SQLite whether a statement is busy, and it is not before its first step
(Modules/_sqlite/cursor.c, sqlite3_stmt_busy). The rows of one question then come in the answer to the other, without an
error. So each is asked and answered whole, under a lock.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any


class Answer:
    """All rows; ``rowcount``: of a statement that changes some."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: list[Any], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount

    def fetchone(self) -> Any:
        return self._rows[0] if self._rows else None

    def fetchall(self) -> list[Any]:
        return self._rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)


class Database:
    """Errors are those of sqlite3."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._lock = threading.Lock()

    def execute(self, text: str, values: Sequence[Any] = ()) -> Answer:
        with self._lock:
            cursor = self._connection.execute(text, values)
            return Answer(cursor.fetchall(), cursor.rowcount)

    def executemany(self, text: str, rows: Iterable[Sequence[Any]]) -> Answer:
        with self._lock:
            return Answer([], self._connection.executemany(text, rows).rowcount)

    def executescript(self, text: str) -> None:
        with self._lock:
            self._connection.executescript(text)

    def write_blob(self, table: str, column: str, row: int, parts: Iterable[tuple[int, bytes]]) -> None:
        """In place, (offset, bytes) each: the value keeps its length."""
        with self._lock, self._connection.blobopen(table, column, row) as blob:
            for offset, data in parts:
                blob.seek(offset)
                blob.write(data)

    def close(self) -> None:
        """What was not committed is forgotten."""
        with self._lock:
            self._connection.rollback()
            self._connection.close()
