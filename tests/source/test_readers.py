"""The readers of the walk: what becomes of a unit, here and when a reader process dies under it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from livelift.model.record import BaseFile, Kind, Make, Record
from livelift.source import readers as module
from livelift.source.readers import Item, Outcome, Readers


class Log:
    """As much of a journal as readers use."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.records: list[Record] = []
        self.wait_room = lambda size, timeout: True
        self.index = SimpleNamespace(is_dir=lambda oid: True, set_racy=lambda oid: None)

    def emit(self, records: list[Record]) -> list[int]:
        self.records += records
        return []


Start = Callable[..., tuple[Readers, Log, list[Outcome]]]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[Readers] = []

    def begin(threads: int = 2) -> tuple[Readers, Log, list[Outcome]]:
        log, outcomes = Log(), []
        readers = Readers(log, outcomes.append, threads)  # type: ignore[arg-type]
        readers.start(lambda work: work)
        running.append(readers)
        return readers, log, outcomes

    yield begin
    for readers in running:
        readers.stop()


def items_of(top: Path, count: int, first: int = 0) -> list[Item]:
    fd = os.open(top, os.O_RDONLY)
    job: Any = SimpleNamespace(oid=2, handle=SimpleNamespace(fd=fd))
    items = []
    for number in range(first, first + count):
        path = top / f"file-{number}"
        path.write_bytes(b"%d" % number * 10)
        items.append(Item(job, os.fsencode(path.name), path.stat().st_ino))
    return items


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def read(outcomes: list[Outcome]) -> int:
    return sum(len(out.done) for out in outcomes)


def test_what_becomes_of_each_file(start: Start, tmp_path: Path) -> None:
    readers, log, outcomes = start()
    items = items_of(tmp_path, 4)
    (tmp_path / "file-1").unlink()
    (tmp_path / "file-2").write_bytes(b"x" * (300 << 10))
    replaced = items[3]._replace(oid=items[3].oid + 1)
    readers.put([items[0], items[1], items[2], replaced])
    wait(lambda: bool(outcomes))
    (out,) = outcomes
    assert out.done == [items[0], items[2]]
    assert out.again == [items[1], replaced]
    assert out.large == [items[2]]
    assert [record.kind for record in log.records] == [Kind.BASE_FILE, Kind.CREATE]
    whole, large = (record.body for record in log.records)
    assert isinstance(whole, BaseFile)
    assert isinstance(large, Make)
    assert bytes(log.records[0].payload) == b"0" * 10


def test_a_long_walk_is_read_by_processes(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONG", 2)
    readers, log, outcomes = start()
    items = items_of(tmp_path, 200)
    for at in range(0, 200, 10):
        readers.put(items[at : at + 10])
    wait(lambda: read(outcomes) == 200)
    assert readers.cpu > 0, "processes have read some of it"
    assert {record.body.oid: bytes(record.payload) for record in log.records} == {  # type: ignore[union-attr]
        item.oid: b"%d" % number * 10 for number, item in enumerate(items)
    }


def test_processes_that_die_lose_nothing(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed for want of memory, say: the agent reads on by itself, and says so."""
    monkeypatch.setattr(module, "LONG", 0)
    readers, log, outcomes = start()
    items = items_of(tmp_path, 100)
    readers.put(items[:10])
    wait(lambda: read(outcomes) == 10)
    assert readers._processes is not None
    for pid in readers._processes.pids:
        os.kill(pid, signal.SIGKILL)
    for at in range(10, 100, 10):
        readers.put(items[at : at + 10])
    wait(lambda: read(outcomes) == 100)
    assert {record.body.oid for record in log.records} == {item.oid for item in items}  # type: ignore[union-attr]
    assert len(log.records) == 100
    assert "reads in its place" in caplog.text


def test_no_process_to_be_had_is_no_trouble(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At the limit of processes (EAGAIN) or of descriptors the agent reads in its own threads, and says so."""

    def refuse(*_: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(module, "LONG", 0)
    monkeypatch.setattr(module, "Processes", refuse)
    readers, log, outcomes = start()
    items = items_of(tmp_path, 60)
    for at in range(0, 60, 10):
        readers.put(items[at : at + 10])
    wait(lambda: read(outcomes) == 60)
    assert len(log.records) == 60
    assert "no reader processes" in caplog.text
