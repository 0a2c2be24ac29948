"""The calls that the core uses, on Windows handles."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from livelift.platform.windows import dll, files, posix


@pytest.fixture
def top(tmp_path: Path) -> int:
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").write_bytes(b"0123456789" * 1000)
    (tmp_path / "sub" / "Ünï ☃").write_bytes(b"x")
    return posix.open(str(tmp_path), posix.O_DIRECTORY | posix.O_NOFOLLOW)


def test_a_file_is_read_at_an_offset_and_behind_its_end(top: int) -> None:
    fd = posix.open(b"file", posix.O_RDONLY | posix.O_NOFOLLOW, dir_fd=top)
    assert posix.pread(fd, 5, 3) == b"34567"
    assert posix.pread(fd, 100, 9995) == b"56789"
    assert posix.pread(fd, 100, 10_000) == b""
    buffers = [bytearray(4), bytearray(4)]
    assert posix.preadv(fd, [memoryview(b) for b in buffers], 9994) == 6
    assert bytes(buffers[0] + buffers[1][:2]) == b"456789"
    posix.close(fd)


def test_the_stat_of_a_name_and_of_its_descriptor_agree(top: int) -> None:
    seen = posix.stat(b"file", dir_fd=top, follow_symlinks=False)
    fd = posix.open(b"file", posix.O_RDONLY, dir_fd=top)
    now = posix.fstat(fd)
    assert (seen.st_ino, seen.st_dev, seen.st_size, seen.st_mtime_ns) == (
        now.st_ino, now.st_dev, now.st_size, now.st_mtime_ns,
    )  # fmt: skip
    assert stat.S_ISREG(seen.st_mode) and seen.st_size == 10_000
    assert stat.S_ISDIR(posix.stat(b"sub", dir_fd=top).st_mode)
    assert posix.fstat(top).st_dev == seen.st_dev
    posix.close(fd)


@pytest.mark.parametrize("name", [b"FILE", b"File", b"absent"])
def test_a_name_counts_only_as_it_is_written(top: int, name: bytes) -> None:
    with pytest.raises(FileNotFoundError):
        posix.stat(name, dir_fd=top, follow_symlinks=False)


@pytest.mark.parametrize("name", [b"..", b"sub/x", b"sub\\x", b"a\0b"])
def test_a_name_does_not_leave_its_directory(top: int, name: bytes) -> None:
    with pytest.raises(OSError) as caught:
        posix.stat(name, dir_fd=top)
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError):
        posix.open(name, posix.O_RDONLY, dir_fd=top)


def test_a_file_is_no_directory(top: int) -> None:
    with pytest.raises(NotADirectoryError):
        posix.open(b"file", posix.O_DIRECTORY, dir_fd=top)


def test_every_name_is_listed_with_the_reference_that_stat_gives(top: int) -> None:
    with posix.scandir(top) as entries:
        found = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
    assert found == {"sub": True, "file": False}


def test_hard_links_are_one_object(top: int, tmp_path: Path) -> None:
    os.link(tmp_path / "file", tmp_path / "sub" / "second")
    below = posix.open(b"sub", posix.O_DIRECTORY, dir_fd=top)
    one, two = posix.stat(b"file", dir_fd=top), posix.stat(b"second", dir_fd=below)
    assert one.st_ino == two.st_ino
    assert two.st_nlink == 2


def test_an_open_directory_is_the_same_after_a_rename(top: int, tmp_path: Path) -> None:
    below = posix.open(b"sub", posix.O_DIRECTORY, dir_fd=top)
    before = posix.fstat(below)
    (tmp_path / "sub").rename(tmp_path / "moved")
    assert posix.fstat(below).st_ino == before.st_ino
    name = "Ünï ☃".encode()
    assert posix.stat(name, dir_fd=below).st_size == 1
    with pytest.raises(FileNotFoundError):
        posix.stat("ünÏ ☃".encode(), dir_fd=below)
    fd = posix.open(name, posix.O_RDONLY, dir_fd=below)
    assert posix.pread(fd, 10, 0) == b"x"


def test_a_file_that_is_open_elsewhere_is_not_disturbed(tmp_path: Path) -> None:
    """All sharing: the workload may write, rename and delete what we read."""
    path = tmp_path / "busy"
    path.write_bytes(b"first")
    fd = posix.open(str(path), posix.O_RDONLY)
    path.write_bytes(b"second")
    path.rename(tmp_path / "renamed")
    (tmp_path / "renamed").unlink()
    assert posix.pread(fd, 100, 0) == b"second"
    posix.close(fd)


def test_an_exclusively_open_file_can_be_looked_at_but_not_read(top: int, tmp_path: Path) -> None:
    handle = files.open_path(str(tmp_path / "file"), files.GENERIC_READ | files.GENERIC_WRITE, 3, 0, 0)
    try:
        assert posix.stat(b"file", dir_fd=top).st_size == 10_000
        with pytest.raises(PermissionError) as caught:
            posix.open(b"file", posix.O_RDONLY | posix.O_NOFOLLOW, dir_fd=top)
        assert dll.winerror(caught.value) == files.SHARING_VIOLATION
    finally:
        files.close(handle)


def test_a_log_is_written_flushed_and_cut(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "log")
    fd = posix.open(path, posix.O_RDWR | posix.O_CREAT | posix.O_EXCL, 0o600)
    assert posix.pwritev(fd, [b"abc", memoryview(b"defg")], 10) == 7
    posix.fdatasync(fd)
    assert posix.pread(fd, 100, 9) == b"\0abcdefg"
    posix.ftruncate(fd, 12)
    assert posix.fstat(fd).st_size == 12
    copy = posix.dup(fd)
    posix.close(fd)
    assert posix.pread(copy, 2, 10) == b"ab"
    posix.close(copy)
    with pytest.raises(FileExistsError):
        posix.open(path, posix.O_RDWR | posix.O_CREAT | posix.O_EXCL)


def test_a_lock_keeps_others_out_until_it_is_closed(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "lock")
    first = posix.open(path, posix.O_RDWR | posix.O_CREAT)
    second = posix.open(path, posix.O_RDWR)
    posix.lock_exclusive(first)
    with pytest.raises(BlockingIOError):
        posix.lock_exclusive(second)
    posix.close(first)
    posix.lock_exclusive(second)


def test_many_threads_read_one_descriptor(top: int) -> None:
    fd = posix.open(b"file", posix.O_RDONLY, dir_fd=top)
    wrong: list[int] = []

    def read(number: int) -> None:
        for n in range(200):
            at = (number * 997 + n * 31) % 9990
            if posix.pread(fd, 10, at) != (b"0123456789" * 2)[at % 10 : at % 10 + 10]:
                wrong.append(at)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_room_on_the_volume(tmp_path: Path) -> None:
    room = posix.statvfs(str(tmp_path))
    assert 0 < room.f_bavail <= room.f_bfree <= room.f_blocks


def test_paths_may_be_long(tmp_path: Path) -> None:
    parts = [f"{n:03}" + "x" * 60 for n in range(6)]
    where = posix.extended(str(tmp_path))
    for part in parts:
        where += "\\" + part
        os.mkdir(where)
    assert len(where) > 300
    fd = posix.open(os.path.join(str(tmp_path), *parts), posix.O_DIRECTORY)
    assert stat.S_ISDIR(posix.fstat(fd).st_mode)
    posix.close(fd)
