"""A stamp is judged by the clock of change times, asked before the first look at the object, wherever one is read."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from livelift.merge.brackets import Brackets
from livelift.model.entry import Stamp, object_id
from livelift.source import changes, newcomers, readers
from livelift.source.changes import Changes
from livelift.source.dirty import Mark
from livelift.source.newcomers import Newcomers
from livelift.source.racy import RACY, is_racy
from livelift.source.readers import Item, Readers

MARK = Mark(True, 0, None, 0)


def test_the_edge_of_the_window() -> None:
    assert is_racy(100, 100) and is_racy(200, 100) and is_racy(100, 100 + RACY)
    assert not is_racy(100, 101 + RACY)


class Slow:
    """A file that has just changed, and a clock that is an hour on as soon as anything of the file was looked at."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
        self.path = top / "file"
        self.path.write_bytes(b"text")
        st = self.path.stat()
        self.oid = object_id(0, st.st_ino)
        self.now = st.st_ctime_ns
        self.racy: list[int] = []
        monkeypatch.setattr(module, "stamp_clock", lambda: self.now)
        self.index = SimpleNamespace(
            set_racy=self.racy.append, is_dir=lambda oid: True, lookup=lambda parent, name: 0, place=lambda oid: None,
            places=lambda oid: [(2, b"file")], type_of=lambda oid: 0o100000, drop_blocks=lambda oid: None,
        )  # fmt: skip
        self.journal = SimpleNamespace(
            lock=threading.RLock(), index=self.index, emit=lambda records: [],
            wait_room=lambda size, timeout: True,
        )  # fmt: skip
        self.live = SimpleNamespace(
            open_file=self._open, object_of=lambda st: object_id(0, st.st_ino), directory=self._directory
        )

    def hour(self) -> None:
        self.now += 3600 * 10**9

    def _open(self, oid: int, parent: int, name: bytes) -> int:
        self.hour()
        return os.open(self.path, os.O_RDONLY)

    def _directory(self, oid: int) -> Any:
        self.hour()
        return Opened(self.path.parent)


class Opened:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> int:
        self._fd = os.open(self._path, os.O_RDONLY)
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def test_a_change_that_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(tmp_path, monkeypatch, changes)
    reader = object.__new__(Changes)
    reader._bytes, reader._windowed, reader.exact = 0, None, False
    reader._journal, reader._live = slow.journal, slow.live  # type: ignore[assignment]
    reader._big = SimpleNamespace(outdated=lambda *_: False)  # type: ignore[assignment]
    reader._gaps = SimpleNamespace(close=lambda oid: None)  # type: ignore[assignment]
    slow.index.place = lambda oid: (2, b"file")
    made = reader._file(slow.oid, (2, b"file"), Stamp(1, 2, 3), None, MARK, SimpleNamespace(), 0)  # type: ignore[arg-type]
    assert made is not None and made.records()
    made.after([])
    assert slow.racy == [slow.oid]


def test_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(tmp_path, monkeypatch, newcomers)
    reader = Newcomers(slow.journal, slow.live, Brackets(), SimpleNamespace(add=lambda *_: None), None, None)  # type: ignore[arg-type]
    made = reader.read(slow.oid, MARK._replace(place=(2, b"file")))
    assert made.records()
    made.after([])
    assert slow.racy == [slow.oid]


def test_a_file_of_the_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(tmp_path, monkeypatch, readers)
    read = readers.read_files

    def slowly(places: Any) -> Any:
        for frame in read(places):
            slow.hour()
            yield frame

    monkeypatch.setattr(readers, "read_files", slowly)
    walk = Readers(slow.journal, lambda out: None, 1)  # type: ignore[arg-type]
    with Opened(tmp_path) as fd:
        job: Any = SimpleNamespace(oid=2, handle=SimpleNamespace(fd=fd))
        unit = [Item(job, b"file", slow.oid)]
        walk._unit(unit, None)

        def lane(places: Any) -> Any:
            return slowly(places)

        slow.now = slow.path.stat().st_ctime_ns
        walk._unit(unit, SimpleNamespace(read=lane))  # type: ignore[arg-type]
    assert slow.racy == [slow.oid, slow.oid]
