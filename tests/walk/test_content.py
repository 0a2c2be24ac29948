"""What is read is what the file holds: small and large, sparse, preallocated, changing, shrinking."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.model.entry import Extent
from livelift.platform.linux import files
from livelift.walk import content
from livelift.walk.attributes import attributes_at
from livelift.walk.content import CHUNK, BufferPool, LargeFile, Small, read_small
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
    small = read_small(disk_fd, b"sparse")
    assert small is not None
    assert rebuild(small) == (disk / "sparse").read_bytes()
    assert small.extents == (Extent(65536, 4096),)
    with (disk / "hole").open("wb") as file:
        file.truncate(100_000)
    small = read_small(disk_fd, b"hole")
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


def chunked(large: LargeFile, start: int = 0, end: int | None = None) -> bytes:
    """Everything that the chunks hold, in a buffer of zeros; checks the promises on the way."""
    image = bytearray(large.stat.st_size)
    last = 0
    for offset, view in large.chunks(start, end):
        assert offset >= last
        assert 0 < len(view) <= CHUNK
        assert offset // CHUNK == (offset + len(view) - 1) // CHUNK, "cut at multiples of 1 MiB"
        image[offset : offset + len(view)] = view
        last = offset + len(view)
        large.pool.release(view)
    return bytes(image)


@pytest.mark.root
@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("size", [4 * MIB, 4 * MIB + 1, 5 * MIB + 12345, 5 * MIB - 1])
def test_large_files_in_chunks(disk: Path, disk_fd: int, direct: bool, size: int) -> None:
    data = random.Random(size).randbytes(size)
    (disk / "large").write_bytes(data)
    with LargeFile.open(disk_fd, b"large", direct=direct) as large:
        assert large.direct == direct
        assert chunked(large) == data
        assert large.direct == direct, "no silent fallback"
        assert chunked(large, MIB + 5, 3 * MIB + 7) == bytes(MIB + 5) + data[MIB + 5 : 3 * MIB + 7] + bytes(
            size - 3 * MIB - 7
        )
        assert not large.changed()
        assert large.attributes().size == size


@pytest.mark.root
@pytest.mark.parametrize("direct", [False, True])
def test_large_sparse_and_preallocated(disk: Path, disk_fd: int, direct: bool) -> None:
    path = disk / "sparse"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.pwrite(fd, b"first", 0)
    os.pwrite(fd, b"middle" * 1000, 9 * MIB + 300)
    files.fallocate(fd, 0, 20 * MIB, 2 * MIB)
    os.truncate(fd, 40 * MIB + 77)
    os.pwrite(fd, b"last", 40 * MIB)
    os.fsync(fd)
    os.close(fd)
    with LargeFile.open(disk_fd, b"sparse", direct=direct) as large:
        assert sum(run.length for run in large.extents()) < 100_000
        assert large.allocated() == (Extent(20 * MIB, 2 * MIB),)
        assert chunked(large) == path.read_bytes()
    path.unlink()


@pytest.mark.parametrize("direct", [False, True])
def test_a_file_that_shrinks_ends_earlier(tmp_path: Path, directory: int, direct: bool) -> None:
    (tmp_path / "log").write_bytes(b"x" * (6 * MIB))
    with LargeFile.open(directory, b"log", direct=direct) as large:
        chunks = large.chunks()
        assert next(chunks)[0] == 0
        os.truncate(tmp_path / "log", MIB + 100)
        assert [(offset, len(view)) for offset, view in chunks] == [(MIB, 100)]
        assert large.changed()
        assert large.attributes().size == MIB + 100


def test_a_file_system_that_refuses_direct_reads(
    tmp_path: Path, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random.Random(1).randbytes(5 * MIB + 3)
    (tmp_path / "file").write_bytes(data)
    with LargeFile.open(directory, b"file", direct=True) as large:
        real, direct_fd = os.preadv, large._direct_fd

        def preadv(fd: int, buffers: list[memoryview], offset: int) -> int:
            if fd == direct_fd and offset >= 2 * MIB:
                raise OSError(errno.EINVAL, "no")
            return real(fd, buffers, offset)

        if direct_fd < 0:
            pytest.skip("the file system of the temporary directory has no O_DIRECT")
        monkeypatch.setattr(os, "preadv", preadv)
        assert chunked(large) == data
        assert not large.direct


def test_an_error_of_the_disk_comes_through(tmp_path: Path, directory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(bytes(5 * MIB))

    def preadv(fd: int, buffers: list[memoryview], offset: int) -> int:
        raise OSError(errno.EIO, "broken sector")

    monkeypatch.setattr(os, "preadv", preadv)
    with LargeFile.open(directory, b"file") as large, pytest.raises(OSError, match="broken sector"):
        list(large.chunks())


def test_buffers_are_used_again_only_when_given_back(tmp_path: Path, directory: int) -> None:
    (tmp_path / "file").write_bytes(bytes(range(256)) * 4096 * 3)
    pool = BufferPool(keep=2)
    with LargeFile.open(directory, b"file", pool=pool) as large:
        views = [view for _, view in large.chunks()]
        assert len({id(view.obj) for view in views}) == 3, "a view that is still held is never overwritten"
        for view in views:
            pool.release(view)
        again = [view.obj for _, view in large.chunks()]
        assert len(again) == 3


def test_not_a_regular_file_closes_what_it_took(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError, match="no longer a regular file"):
        LargeFile(fd)
    with pytest.raises(OSError):
        os.fstat(fd)
