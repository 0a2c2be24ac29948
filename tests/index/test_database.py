"""Threads that ask one database."""

from __future__ import annotations

import itertools
import os
import threading
import time
from pathlib import Path

from livelift.index.database import Database
from livelift.index.tree import TreeIndex


def test_an_answer_is_whole_before_the_next_question_is_asked(tmp_path: Path) -> None:
    """Else a statement that two threads were given at once (Python 3.12 and later) tells each of them some rows."""
    database = Database(str(tmp_path / "db"))
    asked: list[int] = []

    def here(_row: int) -> int:
        asked.append(threading.get_ident())
        time.sleep(0.001)
        return threading.get_ident()

    database._connection.create_function("here", 1, here)
    database.execute("CREATE TABLE number (value INTEGER)")
    database.executemany("INSERT INTO number VALUES (?)", [(n,) for n in range(30)])
    told: dict[int, set[int]] = {}

    def ask() -> None:
        rows = database.execute("SELECT here(value) FROM number").fetchall()
        told[threading.get_ident()] = {row[0] for row in rows}

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(rows == {thread} for thread, rows in told.items()) and len(told) == 3
    assert [len(list(group)) for _, group in itertools.groupby(asked)] == [30, 30, 30]
    database.close()


def test_listings_of_several_threads_do_not_mix(tmp_path: Path) -> None:
    """Under Python 3.13 this failed within a hundredth of a second."""
    index = TreeIndex(os.fsencode(tmp_path / "index"))
    for parent in range(1, 5):
        rows = [(parent, b"%d-%d" % (parent, n), parent * 1000 + n, 0o100644, 0, 0, 0) for n in range(40)]
        index._db.executemany("INSERT INTO entry VALUES (?,?,?,?,?,?,?)", rows)
    end = time.monotonic() + 1
    wrong: list[object] = []

    def read(parent: int) -> None:
        try:
            while time.monotonic() < end and not wrong:
                names = [known.name for known in index.listing(parent)]
                if len(names) != 40 or not all(name.startswith(b"%d-" % parent) for name in names):
                    wrong.append(names)
        except Exception as error:  # whatever a thread dies of fails the test
            wrong.append(error)

    threads = [threading.Thread(target=read, args=(parent,)) for parent in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:1]
    index.close()
