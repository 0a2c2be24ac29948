"""What is read is what the file holds: sparse, preallocated, changing, shrinking."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.model.extent import Extent
from livelift.platform.linux import files
from livelift.walk import content
from livelift.walk.attributes import attributes_at
from livelift.walk.content import Small, read_small
from tests.loopfs import loop_filesystem

MIB = 1 << 20


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture(scope="module", params=["ext4", "xfs", "btrfs"])
def disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    with loop_filesystem(request.param, 128) as mountpoint:
        yield mountpoint


@pytest.fixture
def disk_fd(disk: Path) -> Iterator[int]:
    fd = os.open(disk, os.O_RDONLY)
    yield fd
    os.close(fd)


def rebuild(small: Small) -> bytes:
    """The content as a target would build it."""
    image = bytearray(small.attributes.size)
    position = 0
    for offset, length in small.extents:
        image[offset : offset + length] = small.payload[position : position + length]
        position += length
    assert position == len(small.payload)
    return bytes(image)


@pytest.mark.parametrize("size", [0, 1, 1023, 4096, 4097, 100_000, content.SMALL])
def test_small_files_whole(tmp_path: Path, directory: int, size: int) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "file").write_bytes(data)
    small = read_small(directory, b"file")
    assert small is not None
    assert rebuild(small) == data
    assert small.attributes.size == size
    assert small.extents == ((Extent(0, size),) if size else ())
    status = (tmp_path / "file").stat()
    assert (small.device, small.inode) == (status.st_dev, status.st_ino)


def test_larger_than_the_limit_is_none(tmp_path: Path, directory: int) -> None:
    (tmp_path / "file").write_bytes(bytes(content.SMALL + 1))
    assert read_small(directory, b"file") is None
    assert read_small(directory, b"file", limit=content.SMALL + 1) is not None


def test_atime_is_left_alone(tmp_path: Path, directory: int) -> None:
    (tmp_path / "file").write_bytes(b"x")
    os.utime(tmp_path / "file", ns=(1, 2))
    small = read_small(directory, b"file")
    assert small is not None
    assert (tmp_path / "file").stat().st_atime_ns == 1 == small.attributes.atime


def test_a_symlink_a_fifo_and_a_directory_are_refused_without_blocking(tmp_path: Path, directory: int) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dir").mkdir()
    for name, number in ((b"link", errno.ELOOP), (b"fifo", errno.ESTALE), (b"dir", errno.ESTALE), (b"x", errno.ENOENT)):
        with pytest.raises(OSError) as caught:
            read_small(directory, name)
        assert caught.value.errno == number


def test_a_lease_is_waited_for(tmp_path: Path, directory: int) -> None:
    (tmp_path / "leased").write_bytes(b"delegated")
    holder = os.open(tmp_path / "leased", os.O_RDWR)
    broken = []

    def give_up(number: int, frame: object) -> None:
        broken.append(number)
        fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    before = signal.signal(signal.SIGIO, give_up)
    try:
        fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        small = read_small(directory, b"leased")
        assert small is not None
        assert small.payload == b"delegated"
        assert broken
        fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        assert attributes_at(directory, b"leased") == small.attributes
    finally:
        signal.signal(signal.SIGIO, before)
        os.close(holder)


def test_a_file_that_changes_once_is_read_again(
    tmp_path: Path, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old content")
    real, reads = os.pread, []

    def pread(fd: int, size: int, offset: int) -> bytes:
        reads.append(size)
        data = real(fd, size, offset)
        if len(reads) == 1:
            path.write_bytes(b"new and longer content")
        return data

    monkeypatch.setattr(os, "pread", pread)
    small = read_small(directory, b"file")
    assert small is not None
    assert rebuild(small) == b"new and longer content"
    assert len(reads) == 2


@pytest.mark.parametrize("step", [100, -100])
def test_a_file_that_never_stands_still_is_consistent_in_itself(
    tmp_path: Path, directory: int, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 5000)
    real, reads = os.pread, []

    def pread(fd: int, size: int, offset: int) -> bytes:
        data = real(fd, size, offset)
        reads.append(size)
        os.truncate(path, path.stat().st_size + step)
        return data

    monkeypatch.setattr(os, "pread", pread)
    small = read_small(directory, b"file")
    assert small is not None
    assert small.attributes.size == path.stat().st_size, "the latest stamp, so that a later comparison is right"
    assert len(rebuild(small)) == small.attributes.size
    assert sum(small.extents[-1]) <= small.attributes.size


def test_a_file_that_is_cut_while_it_is_read(
    tmp_path: Path, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"x" * 5000)
    real = os.fstat
    first = []

    def fstat(fd: int) -> os.stat_result:
        found = real(fd)
        if not first:
            first.append(1)
            os.truncate(tmp_path / "file", 10)
        return found

    monkeypatch.setattr(os, "fstat", fstat)
    small = read_small(directory, b"file")
    assert small is not None
    assert rebuild(small) == b"x" * 10


@pytest.mark.root
def test_small_sparse_files_keep_their_holes(disk: Path, disk_fd: int) -> None:
    with (disk / "sparse").open("wb") as file:
        file.truncate(200_000)
        file.seek(65536)
        file.write(b"island")
    small = read_small(disk_fd, b"sparse", 256 << 10)
    assert small is not None
    assert rebuild(small) == (disk / "sparse").read_bytes()
    assert small.extents == (Extent(65536, 4096),)
    with (disk / "hole").open("wb") as file:
        file.truncate(100_000)
    small = read_small(disk_fd, b"hole", 256 << 10)
    assert small is not None
    assert (small.extents, small.payload, small.allocated) == ((), b"", ())


@pytest.mark.root
def test_preallocation_of_small_files(disk: Path, disk_fd: int) -> None:
    fd = os.open(disk / "beyond", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    files.fallocate(fd, files.KEEP_SIZE, 0, MIB)
    os.fsync(fd)
    small = read_small(disk_fd, b"beyond")
    assert small is not None
    assert (small.attributes.size, small.payload, small.allocated) == (0, b"", (Extent(0, MIB),))
    os.write(fd, b"x" * 8192)
    os.fsync(fd)
    small = read_small(disk_fd, b"beyond")
    assert small is not None
    assert (small.payload, small.allocated) == (b"x" * 8192, (Extent(8192, MIB - 8192),))
    os.close(fd)
