"""The check of an index: what is well formed passes, and each fault is named."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from livelift.index.tree import TreeIndex
from livelift.model.entry import Attributes
from livelift.model.record import Kind, Link, Make, Record
from tests.oracle.wellformed import faults

FILE, DIRECTORY = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """/d/e, and a file with two names, one of them in limbo."""
    path = tmp_path / "index.sqlite"
    tree = TreeIndex(os.fsencode(path))
    made = [(2, 0, b"0", DIRECTORY), (3, 2, b"d", DIRECTORY), (4, 3, b"e", DIRECTORY), (5, 4, b"f", FILE)]
    for lsn, (oid, parent, name, mode) in enumerate(made, 1):
        kind = Kind.MKDIR if mode == DIRECTORY else Kind.CREATE
        tree.apply([Record(kind, Make(oid, parent, name, Attributes(mode, 0, 0, 10, 5, 0, 5, 1)), lsn=lsn)])
    tree.apply([Record(Kind.LINK, Link(5, -1, b"g", 4, b"f"), lsn=9)])
    tree.commit()
    tree.close()
    return path


def test_well_formed(index: Path) -> None:
    assert faults(index) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("INSERT INTO entry SELECT 3, x'78', oid, mode, size, mtime, ctime FROM entry WHERE oid=4", "has the places"),
        ("UPDATE entry SET parent=4 WHERE oid=3", "lies in itself"),
        ("UPDATE entry SET parent=99 WHERE oid=5 AND parent=4", "no directory"),
        ("UPDATE entry SET parent=5 WHERE oid=4", "no directory"),
        ("UPDATE entry SET mode=16877 WHERE oid=5 AND parent=4", "has the types"),
    ],
)
def test_each_fault_is_named(index: Path, change: str, words: str) -> None:
    with sqlite3.connect(index) as db:
        db.execute(change)
    db.close()
    assert any(words in found for found in faults(index))
