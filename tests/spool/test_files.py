from __future__ import annotations

import os
from pathlib import Path

import pytest

from livelift.errors import CorruptError
from livelift.log.batch import make_batch
from livelift.log.segment import NO_PREVIOUS, SegmentHeader
from livelift.spool import files
from livelift.spool.files import SegmentFile, read_batch, segment_names, write_all
from tests.log.strategies import numbered
from tests.spool.helpers import mark, write

HEADER = SegmentHeader("job", 1, 1, NO_PREVIOUS)


def test_any_lsn_is_found_through_a_sparse_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_INDEX_EVERY", 700)
    segment = SegmentFile.create(os.fsencode(tmp_path), HEADER)
    try:
        for lsn in range(1, 60, 2):
            segment.append(make_batch(numbered([write(5, bytes(50)), mark()], lsn)))
        assert 2 < len(segment._spots) < 15
        for lsn in range(1, 61):
            batch, behind = read_batch(segment.fd, "x", segment.spot(lsn), lsn)
            assert batch.first_lsn <= lsn <= batch.last_lsn == behind.lsn - 1
        os.pwrite(segment.fd, b"x", segment.size - 1)
        with pytest.raises(CorruptError, match="first lost LSN 59"):
            read_batch(segment.fd, "x", segment.spot(60), 60)
        os.pwrite(segment.fd, b"x", segment._spots[1].offset)
        with pytest.raises(CorruptError, match="frame header damaged"):
            read_batch(segment.fd, "x", segment._spots[1], 30)
    finally:
        segment.close()


def test_a_failed_append_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = SegmentFile.create(os.fsencode(tmp_path), HEADER)
    try:
        segment.append(make_batch(numbered([mark()], 1)))
        size, chain = segment.size, segment.chain

        def half(fd: int, parts: list[bytes], offset: int) -> int:
            return os.pwrite(fd, b"".join(parts)[:30], offset)

        def refuse(fd: int, parts: list[bytes], offset: int) -> int:
            half(fd, parts, offset)
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", refuse)
            with pytest.raises(OSError, match="No space"):
                segment.append(make_batch(numbered([mark()], 2)))
        assert (segment.size, segment.chain, os.fstat(segment.fd).st_size) == (size, chain, size)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", half)
            segment.append(make_batch(numbered([mark()], 2)))
    finally:
        segment.close()
    again, torn = SegmentFile.recover(segment.path, last=True)
    again.close()
    assert (again.last_lsn, torn, again.chain, again.size) == (2, 0, segment.chain, segment.size)


def test_a_segment_that_cannot_be_begun_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, parts: list[bytes], offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwritev", refuse)
    with pytest.raises(OSError, match="No space"):
        SegmentFile.create(os.fsencode(tmp_path), HEADER)
    assert os.listdir(tmp_path) == []


def test_only_segments_count_as_such(tmp_path: Path) -> None:
    for name in ("00000000000000000012.seg", "00000000000000000002.seg", "x.seg", "state", "lock", "1.seg.tmp"):
        (tmp_path / name).touch()
    assert [first for first, _ in segment_names(os.fsencode(tmp_path))] == [2, 12]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwritev", lambda fd, parts, offset: real(fd, parts[0][:1], offset))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:2], offset))
    with open(tmp_path / "x", "w+b") as file:
        write_all(file.fileno(), [b"abc", bytearray(b"defg"), memoryview(b"hi")], 3)
        assert file.read() == b"\0\0\0abcdefghi"
