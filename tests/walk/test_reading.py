"""Small files are opened several at a time before they are read: nothing of that shows in what comes out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.walk import content, reading
from livelift.walk.reading import AGAIN, FAILED, LARGE, WHOLE, read_files


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def open_now() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_file_that_changes_between_its_opening_and_its_reading(
    tmp_path: Path, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        (tmp_path / str(number)).write_bytes(b"old")

    def fetch(fd: int, st: os.stat_result) -> int:
        (tmp_path / os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))).write_bytes(b"new, and longer")
        return 0

    monkeypatch.setattr(reading, "fetch", fetch)
    (frame,) = read_files([(directory, b"%d" % number) for number in range(8)])
    assert frame.payloads == [b"new, and longer"] * 8
    assert [read.attributes.size for read in frame.files if read.attributes] == [15] * 8


def test_the_order_is_that_of_the_names_whatever_became_of_them(tmp_path: Path, directory: int) -> None:
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "large").write_bytes(bytes(content.SMALL + 1))
    (tmp_path / "two").write_bytes(b"2")
    names = [(directory, name) for name in (b"gone", b"one", b"large", b"gone", b"two")]
    (frame,) = read_files([*names, (-1, b"one")])
    assert [read.status for read in frame.files] == [AGAIN, WHOLE, LARGE, AGAIN, WHOLE, FAILED]
    assert frame.payloads == [b"1", b"2"]
    assert frame.files[2].inode == (tmp_path / "large").stat().st_ino, "so that a replaced one is noticed"


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
    for frame in read_files([(directory, b"%d" % number) for number in range(20)]):
        assert open_now() == before, "none stays open while a frame is on its way"
        assert sum(map(len, frame.payloads)) < reading.FRAME + size
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
    (frame,) = read_files([(directory, b"sparse"), (directory, b"whole")])
    assert [os.path.basename(path) for path in asked] == [b"whole"]
    assert [read.extents for read in frame.files] == [(), ((0, 100 << 10),)]
