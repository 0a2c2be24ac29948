"""Small files are opened several at a time before they are read: nothing of that shows in what comes out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.log.batch import make_stored, records_of
from livelift.model.record import BaseFile, Record
from livelift.walk import content, reading
from livelift.walk.reading import AGAIN, FAILED, LARGE, Frame, Wanted, read_files


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def open_now() -> int:
    return len(os.listdir("/proc/self/fd"))


def wanted(directory: int, *names: bytes) -> list[Wanted]:
    found = []
    for name in names:
        try:
            inode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino
        except FileNotFoundError:
            inode = 1
        found.append(Wanted(0, name, inode, 77))
    return found


def records(frame: Frame) -> list[Record]:
    """Of its page, as they come out of the log."""
    if frame.page is None:
        return []
    frame.page.lsn = 1
    batch, _ = make_stored([frame.page])
    return records_of(batch.heads, b"".join(batch.blobs))


def contents(frame: Frame) -> dict[bytes, bytes]:
    return {record.body.name: bytes(record.payload) for record in records(frame)}  # type: ignore[union-attr]


def test_a_file_that_changes_between_its_opening_and_its_reading(
    tmp_path: Path, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        (tmp_path / str(number)).write_bytes(b"old")

    def fetch(fd: int, st: os.stat_result) -> int:
        (tmp_path / os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))).write_bytes(b"new, and longer")
        return 0

    monkeypatch.setattr(reading, "fetch", fetch)
    (frame,) = read_files([directory], wanted(directory, *(b"%d" % number for number in range(8))))
    assert contents(frame) == {b"%d" % number: b"new, and longer" for number in range(8)}
    assert [record.body.attributes.size for record in records(frame)] == [15] * 8  # type: ignore[union-attr]


def test_what_is_in_the_page_and_what_is_beside_it(tmp_path: Path, directory: int) -> None:
    for name, content_ in (("one", b"1"), ("empty", b""), ("large", bytes(content.SMALL + 1)), ("two", b"22")):
        (tmp_path / name).write_bytes(content_)
    names = wanted(directory, b"gone", b"one", b"large", b"gone", b"empty", b"two")
    replaced = names[1]._replace(oid=names[1].oid + 1)
    (frame,) = read_files([directory, -1], [*names, names[1]._replace(directory=1), replaced])
    assert contents(frame) == {b"one": b"1", b"empty": b"", b"two": b"22"}
    assert [(other.place, other.status) for other in frame.others] == [
        (0, AGAIN),
        (2, LARGE),
        (3, AGAIN),
        (6, FAILED),
        (7, AGAIN),
    ]
    assert frame.names == 8
    large = frame.others[1].attributes
    assert large is not None and large.size == content.SMALL + 1
    body = records(frame)[0].body
    assert isinstance(body, BaseFile)
    assert (body.oid, body.parent) == (names[1].oid, 77)
    assert frame.page is not None and frame.page.rows[0][:4] == (77, b"one", names[1].oid, body.attributes.mode)


def test_a_fresh_stamp_is_not_kept(tmp_path: Path, directory: int) -> None:
    """It could change again within the same tick of the clock. An old one is kept, and further names are told."""
    (tmp_path / "old").write_bytes(b"x")
    os.link(tmp_path / "old", tmp_path / "another name")
    time.sleep(0.05)
    (tmp_path / "new").write_bytes(b"x")
    (frame,) = read_files([directory], wanted(directory, b"old", b"new"))
    assert frame.page is not None
    (*_, old), (*_, new) = frame.page.rows
    assert old == (tmp_path / "old").stat().st_ctime_ns
    assert new == 0
    assert frame.page.linked == [(tmp_path / "old").stat().st_ino]


def test_no_more_is_open_than_what_is_on_its_way(
    tmp_path: Path, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 100 << 10
    for number in range(20):
        (tmp_path / str(number)).write_bytes(os.urandom(size))
    before, most = open_now(), []
    real = reading.read_open

    def read_open(fd: int, st: os.stat_result) -> content.Small | None:
        most.append(open_now() - before)
        return real(fd, st)

    monkeypatch.setattr(reading, "read_open", read_open)
    for frame in read_files([directory], wanted(directory, *(b"%d" % number for number in range(20)))):
        assert open_now() == before, "none stays open while a frame is on its way"
        assert frame.page is not None and len(frame.page.payload) < reading.FRAME + size
    assert max(most) == -(-content.AHEAD // size)


def test_holes_are_not_filled_with_pages(
    tmp_path: Path, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, *_: asked.append(os.readlink(b"/proc/self/fd/%d" % fd)))
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(100 << 10)
    with (tmp_path / "whole").open("wb") as file:
        file.write(b"x" * (100 << 10))
        file.flush()
        os.fsync(file.fileno())
    (frame,) = read_files([directory], wanted(directory, b"sparse", b"whole"))
    assert [os.path.basename(path) for path in asked] == [b"whole"]
    assert contents(frame) == {b"sparse": b"", b"whole": b"x" * (100 << 10)}
