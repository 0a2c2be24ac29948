"""A big file is read while it is written: whatever happens between any two steps, what the log makes of it is the file
when everything that was told is in the log, and digests are never those of content that the target has not."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from livelift.index.tree import TreeIndex
from livelift.merge.blocks import DIGEST, HoleDigest, block_size, digests
from livelift.merge.brackets import Brackets
from livelift.model.entry import Attributes, object_id
from livelift.model.record import BaseFile, Kind, Make, Range, Record
from livelift.platform.linux.files import KEEP_SIZE, PUNCH_HOLE, fallocate
from livelift.ports import Event, Exact
from livelift.source import windowed as module
from livelift.source.dirty import Dirty
from livelift.source.gaps import Gaps
from livelift.source.journal import Journal
from livelift.source.told import ToldContent
from livelift.source.windowed import Windowed, data_within

OID, ROOT = object_id(0, 7), object_id(0, 2)
BLOCK = block_size(1)


class Stage:
    """A live file, the capture's stream, and what the target makes of the log."""

    def __init__(self, tmp_path: Path, rng: random.Random, size: int) -> None:
        self.rng = rng
        self.path = tmp_path / "file"
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT)
        os.ftruncate(self.fd, size)
        for _ in range(6):
            os.pwrite(self.fd, rng.randbytes(rng.randrange(1, 200_000)), rng.randrange(size))
        index = TreeIndex(os.fsencode(tmp_path / "index"))
        self.journal = Journal(os.fsencode(tmp_path / "spool"), "00", index, 1 << 30, 64 << 20, lambda why: None)
        self.queue: list[Record] = []
        self.told = 0
        self.journal.position = lambda: self.told
        self.brackets: Brackets[Event] = Brackets()
        self.dirty = Dirty(lambda: 0.0)
        self.gaps = Gaps(self.journal, lambda: 0.0)
        self.content = ToldContent(self.journal, self.brackets, self.dirty, self.gaps)
        self.content.exact = True
        self.replica = bytearray()
        self._emit = self.journal.emit
        self.journal.emit = self._watch  # type: ignore[method-assign]
        plain = Attributes(0o100644, 0, 0, size, 0, 0, 0)
        self.journal.put(Kind.MKDIR, Make(ROOT, 0, b"0", Attributes(0o40755, 0, 0, 0, 0, 0, 0)))
        self.journal.put(Kind.CREATE, Make(OID, ROOT, b"file", plain))
        self.windowed = Windowed(self.journal, self.content, self.gaps, lambda *_: False, threading.Event())

    def _watch(self, records: list[Record], late: bool = True) -> list[int]:
        for record in records:
            if isinstance(record.body, Range | BaseFile):
                self.apply(record)
        return self._emit(records, late)

    def apply(self, record: Record) -> None:
        """As the target does (`livelift.replay.content`)."""
        body, kind = record.body, record.kind
        if kind is Kind.BASE_BEGIN:
            self.replica.clear()
            return
        assert isinstance(body, Range)
        end = body.offset + body.length
        if kind is Kind.TRUNCATE:
            del self.replica[body.offset :]
            self.replica.extend(bytes(body.offset - len(self.replica)))
        elif kind in (Kind.WRITE, Kind.BASE_EXTENT):
            self.replica.extend(bytes(max(end - len(self.replica), 0)))
            self.replica[body.offset : end] = bytes(record.payload)
        elif kind is Kind.PUNCH:
            end = min(end, len(self.replica))
            if end > body.offset:
                self.replica[body.offset : end] = bytes(end - body.offset)
        else:
            assert kind is Kind.ALLOCATE and body.flags == 1

    def work(self) -> None:
        """Something happens to the live file, and the capture tells it."""
        rng, size = self.rng, os.fstat(self.fd).st_size
        offset = rng.randrange(size + 100_000)
        match rng.randrange(8):
            case 0 | 1 | 2 | 3:
                data = rng.randbytes(rng.choice((1, 100, 5000, 40_000)))
                os.pwrite(self.fd, data, offset)
                self._tell(Kind.WRITE, offset, len(data), data)
            case 4:
                near = min(offset, size) // BLOCK * BLOCK
                data = rng.randbytes(20)
                os.pwrite(self.fd, data, near)
                self._tell(Kind.WRITE, near, 20, data)
            case 5:
                os.ftruncate(self.fd, offset)
                self._tell(Kind.TRUNCATE, offset, 0)
            case 6:
                os.ftruncate(self.fd, offset // 3)
                self._tell(Kind.TRUNCATE, offset // 3, 0)
            case 7:
                fallocate(self.fd, PUNCH_HOLE | KEEP_SIZE, offset, 150_000)
                self._tell(Kind.PUNCH, offset, 150_000)

    def _tell(self, kind: Kind, offset: int, length: int, payload: bytes = b"") -> None:
        self.queue.append(Record(kind, Range(OID, 0, b"", offset, length), payload))
        self.told += 1

    def deliver(self, count: int) -> None:
        taken, self.queue = self.queue[:count], self.queue[count:]
        if taken:
            self.content.put([Exact(record) for record in taken])

    def happen(self) -> None:
        """Between two steps of the reading."""
        for _ in range(self.rng.randrange(4)):
            self.work()
        self.deliver(self.rng.randrange(6))

    def read(self, old: tuple[int, bytes] | None) -> bool:
        assert self.brackets.open(OID)
        done = self.windowed.read(OID, self.fd, 0, 0, old, False)
        held = self.brackets.close(OID)
        assert held.events == [] and not held.overflow
        return done

    def check(self) -> None:
        self.deliver(1 << 30)
        assert bytes(self.replica) == self.path.read_bytes()
        block, found = self.journal.index.blocks(OID) or (0, b"")
        mine = digests(bytes(self.replica), block)
        for at in range(0, min(len(found), len(mine)), DIGEST):
            data = bytes(self.replica[at // DIGEST * block :][:block])
            hole = HoleDigest.VALUE if not any(data) else mine[at : at + DIGEST]
            if found[at : at + DIGEST] not in (mine[at : at + DIGEST], hole, module.UNKNOWN):
                # That of a last block which has grown since is that of no block of this length: it is sent once more.
                used = len(data.rstrip(b"\0"))
                shorter = {digests(data[:length], block) for length in range(max(used, 1), len(data))}
                assert found[at : at + DIGEST] in shorter, f"block {at // DIGEST}"

    def close(self) -> None:
        os.close(self.fd)
        self.journal.close()


@pytest.fixture
def stage(tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(module, "WINDOW", 4 * BLOCK)
    stage = Stage(tmp_path, rng, 1_500_000)

    @contextmanager
    def reader(fd: int, direct: bool) -> Iterator[module.Read]:
        def read(offset: int, length: int) -> bytes:
            stage.happen()
            data = os.pread(fd, length, offset)
            stage.happen()
            return data

        yield read

    def extents(fd: int, start: int, end: int) -> list[tuple[int, int]]:
        found = data_within(fd, start, end)
        stage.happen()
        return found

    monkeypatch.setattr(module, "reader", reader)
    monkeypatch.setattr(module, "data_within", extents)
    yield stage
    stage.close()


@pytest.mark.parametrize("turn", range(25))
def test_the_log_makes_the_same_file(stage: Stage, turn: int) -> None:
    for _ in range(stage.rng.randrange(5)):
        stage.work()
    assert stage.read(None)
    assert stage.replica, "nothing was read"
    late = stage.journal.late
    stage.deliver(1 << 30)
    assert late <= stage.told
    stage.check()
    for _ in range(3):  # once more, by digests, after changes of which a part was never told
        for _ in range(stage.rng.randrange(3)):
            stage.work()
        stage.deliver(1 << 30)  # what happened before the mark that says "something changed" comes before it
        size = os.fstat(stage.fd).st_size
        for _ in range(2):
            os.pwrite(stage.fd, stage.rng.randbytes(3000), stage.rng.randrange(size + 1))
        old = stage.journal.index.blocks(OID)
        assert old is not None
        assert stage.read(old)
        stage.check()


def test_only_what_changed_is_sent_again(stage: Stage) -> None:
    stage.happen = lambda: None  # type: ignore[method-assign]
    os.ftruncate(stage.fd, 0)
    os.pwrite(stage.fd, b"x" * 90 * BLOCK, 0)
    assert stage.read(None)
    before = stage.journal.spool.last_lsn
    os.pwrite(stage.fd, b"changed", 5 * BLOCK + 9)
    sent: list[Record] = []
    watch = stage.journal.emit
    stage.journal.emit = lambda records, late=True: (sent.extend(records), watch(records, late))[1]  # type: ignore[method-assign]
    assert stage.read(stage.journal.index.blocks(OID))
    assert [(r.kind, r.body.offset, r.body.length) for r in sent if r.kind is Kind.WRITE] == [  # type: ignore[union-attr]
        (Kind.WRITE, 5 * BLOCK, BLOCK)
    ]
    assert stage.journal.spool.last_lsn > before
    stage.check()


def test_a_file_that_loses_its_last_name_is_given_up(stage: Stage) -> None:
    stage.happen = lambda: stage.journal.index._remove(ROOT, b"file")  # type: ignore[method-assign]
    assert stage.read(None)
    assert stage.journal.index.place(OID) is None
