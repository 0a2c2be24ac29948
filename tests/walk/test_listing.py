"""A directory is listed whole, in lists of bounded length."""

from __future__ import annotations

import os
import stat
import tracemalloc
from pathlib import Path

import pytest

from livelift.walk.listing import AT_ONCE, Listed, list_directory


def test_kinds_inodes_and_odd_names(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    names = {b"file": stat.S_IFREG, b"n" * 255: stat.S_IFREG, b"\xff\xfe \n\\": stat.S_IFREG, b"dir": stat.S_IFDIR}
    for name, kind in names.items():
        if kind == stat.S_IFDIR:
            os.mkdir(root + b"/" + name)
        else:
            os.close(os.open(root + b"/" + name, os.O_CREAT | os.O_WRONLY))
    os.symlink(b"dir", root + b"/link to dir")
    os.mkfifo(root + b"/fifo")
    names |= {b"link to dir": stat.S_IFLNK, b"fifo": 0}
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(2):  # the second time too: the position of the descriptor does not matter
        found = [entry for part in list_directory(fd) for entry in part]
        assert sorted(found) == sorted(
            Listed(name, os.lstat(root + b"/" + name).st_ino, kind) for name, kind in names.items()
        )
        os.lseek(fd, 7, os.SEEK_SET)
    os.close(fd)


def test_an_empty_directory(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    assert list(list_directory(fd)) == []
    os.close(fd)


def test_many_names_in_bounded_memory(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for number in range(10 * AT_ONCE + 5):
        os.mknod(b"%d" % number, dir_fd=fd)
    tracemalloc.start()
    seen: set[int] = set()
    base, peak = tracemalloc.get_traced_memory()[0], 0
    for part in list_directory(fd):
        assert 0 < len(part) <= AT_ONCE
        peak = max(peak, tracemalloc.get_traced_memory()[0] - base)
        seen.update(int(entry.name) for entry in part)
    tracemalloc.stop()
    os.close(fd)
    assert seen == set(range(10 * AT_ONCE + 5))
    assert peak < 2 << 20, "one list at a time"


def test_names_that_go_meanwhile_do_not_stop_it(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for number in range(3000):
        os.mknod(b"%d" % number, dir_fd=fd)
    parts = list_directory(fd)
    first = next(parts)
    for number in range(3000):
        os.unlink(b"%d" % number, dir_fd=fd)
    assert len(first) == AT_ONCE
    assert all(entry.kind == stat.S_IFREG for part in parts for entry in part)
    os.close(fd)


def test_not_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    with pytest.raises(NotADirectoryError):
        list(list_directory(fd))
    os.close(fd)
