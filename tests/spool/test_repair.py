from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from livelift.errors import LockedError
from livelift.spool.repair import iterate, quarantine
from livelift.spool.spool import Spool
from tests.spool.helpers import JOB, base, mark, write


@pytest.fixture
def directory(tmp_path: Path) -> bytes:
    return os.fsencode(tmp_path / "spool")


def test_a_live_log_is_read_from_any_lsn(directory: bytes) -> None:
    with Spool(directory, JOB, segment_size=300) as spool:
        for n in range(10):
            spool.append([write(5, b"%d" % n * 100), base(6, b"base")])
        for start in range(23):
            assert [r.lsn for r in iterate(directory, start)] == list(range(max(start, 1), 21))
        record = next(iter(iterate(directory, 20)))
        assert record.elided and record.length == 4
        spool.acked(9)
        assert [r.lsn for r in iterate(directory)] == list(range(spool.oldest_lsn, 21))


def test_an_empty_log(directory: bytes) -> None:
    with Spool(directory, JOB):
        assert list(iterate(directory)) == []


def test_segments_deleted_while_reading_are_skipped(directory: bytes) -> None:
    with Spool(directory, JOB, segment_size=300) as spool:
        for n in range(10):
            spool.append([write(5, b"%d" % n * 300)])
        reader = iterate(directory)
        assert next(reader).lsn == 1
        spool.acked(5)
        assert [r.lsn for r in reader] == [6, 7, 8, 9, 10]


def test_reading_beside_a_writer(directory: bytes) -> None:
    with Spool(directory, JOB, segment_size=5000) as spool:
        stop = threading.Event()

        def writer() -> None:
            while not stop.is_set():
                spool.append([write(5, bytes(100)), mark()])
                time.sleep(0.0002)

        thread = threading.Thread(target=writer)
        thread.start()
        try:
            for _ in range(15):
                before = spool.last_lsn
                lsns = [r.lsn for r in iterate(directory)]
                assert lsns == list(range(1, len(lsns) + 1)) and len(lsns) >= before
        finally:
            stop.set()
            thread.join()


def test_a_log_in_use_is_not_set_aside(directory: bytes) -> None:
    with Spool(directory, JOB), pytest.raises(LockedError):
        quarantine(directory)
