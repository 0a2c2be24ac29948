"""Holes, preallocation, confined opening, exchange, cloning, on real file systems."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.model.extent import Extent
from livelift.platform.linux import fiemap, files
from tests.loopfs import loop_filesystem

pytestmark = pytest.mark.root
MIB = 1 << 20


@pytest.fixture(scope="module", params=["ext4", "xfs", "btrfs"])
def disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    with loop_filesystem(request.param, 64) as mountpoint:
        yield mountpoint


@pytest.fixture
def fd(disk: Path, request: pytest.FixtureRequest) -> Iterator[int]:
    path = disk / "file"
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    yield number
    os.close(number)
    path.unlink()


def test_data_extents_follow_the_holes(fd: int) -> None:
    os.pwrite(fd, b"a" * 65536, MIB)
    os.pwrite(fd, b"b" * 65536, 3 * MIB)
    os.truncate(fd, 5 * MIB)
    assert files.data_extents(fd, 5 * MIB) == [Extent(MIB, 65536), Extent(3 * MIB, 65536)]
    assert files.data_extents(fd, MIB + 100) == [Extent(MIB, 100)], "clipped to the size that was asked for"


def test_an_empty_file_and_a_file_of_one_hole_have_no_data(fd: int) -> None:
    assert files.data_extents(fd, 0) == []
    os.truncate(fd, MIB)
    assert files.data_extents(fd, MIB) == []


def test_preallocation_is_allocated_and_not_data(fd: int) -> None:
    files.fallocate(fd, 0, 0, 2 * MIB)
    os.pwrite(fd, b"x" * 65536, 0)
    os.fsync(fd)
    assert files.data_extents(fd, 2 * MIB) == [Extent(0, 65536)]
    assert files.allocated_extents(fd, 2 * MIB) == [Extent(65536, 2 * MIB - 65536)]


def test_preallocation_beyond_the_end_is_seen(fd: int) -> None:
    os.pwrite(fd, b"x" * 65536, 0)
    files.fallocate(fd, files.KEEP_SIZE, 65536, MIB)
    os.fsync(fd)
    assert os.fstat(fd).st_size == 65536
    assert files.allocated_extents(fd, 65536) == [Extent(65536, MIB)]


def test_speculative_preallocation_of_xfs_is_not_reported() -> None:
    with loop_filesystem("xfs", 300) as disk:
        fd = os.open(disk / "log", os.O_RDWR | os.O_CREAT, 0o600)
        for number in range(48):
            os.pwrite(fd, b"x" * 65536, number * 65536)
        os.fsync(fd)
        size = os.fstat(fd).st_size
        assert os.fstat(fd).st_blocks * 512 > size, "XFS preallocated behind the end"
        assert files.allocated_extents(fd, size) == []
        os.close(fd)


def test_punch_hole(fd: int) -> None:
    os.pwrite(fd, b"x" * MIB, 0)
    files.fallocate(fd, files.PUNCH_HOLE | files.KEEP_SIZE, 65536, 65536)
    assert os.pread(fd, 131072, 65536 - 10)[:11] == b"x" * 10 + b"\0"
    assert files.data_extents(fd, MIB) == [Extent(0, 65536), Extent(131072, MIB - 131072)]


def test_fallocate_reports_errno(fd: int) -> None:
    with pytest.raises(OSError) as caught:
        files.fallocate(fd, 0, -1, 10)
    assert caught.value.errno == errno.EINVAL


def test_offsets_beyond_four_gib(fd: int) -> None:
    files.fallocate(fd, files.KEEP_SIZE, 6 << 30, 65536)
    assert files.allocated_extents(fd, 0) == [Extent(6 << 30, 65536)]
    os.pwrite(fd, b"far", 6 << 30)
    os.fsync(fd)
    assert fiemap.fiemap(fd)[0].logical == 6 << 30


def test_clone_shares_or_says_why(disk: Path, fd: int) -> None:
    os.pwrite(fd, b"x" * 65536, 0)
    other = os.open(disk / "clone", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        if files.statfs(fd).type == files.EXT_MAGIC:
            with pytest.raises(OSError) as caught:
                files.clone_range(other, fd, 0, 65536, 65536)
            assert caught.value.errno == errno.EOPNOTSUPP
        else:
            files.clone_range(other, fd, 0, 65536, 65536)
            assert os.pread(other, 65536, 65536) == b"x" * 65536
            assert all(extent.flags & fiemap.SHARED for extent in fiemap.fiemap(other))
    finally:
        os.close(other)


def test_exchange_and_noreplace(disk: Path) -> None:
    (disk / "one").write_text("1")
    (disk / "two").write_text("2")
    root = os.open(disk, os.O_RDONLY)
    files.renameat2(root, b"one", root, b"two", files.RENAME_EXCHANGE)
    assert (disk / "one").read_text() == "2"
    with pytest.raises(FileExistsError):
        files.renameat2(root, b"one", root, b"two", files.RENAME_NOREPLACE)
    os.close(root)


def test_statfs_and_syncfs(fd: int) -> None:
    found = files.statfs(fd)
    files.syncfs(fd)
    assert found.type in (files.EXT_MAGIC, files.XFS_MAGIC, files.BTRFS_MAGIC)
    reference = os.fstatvfs(fd)
    assert (found.bsize, found.blocks, found.namelen) == (reference.f_bsize, reference.f_blocks, reference.f_namemax)
    assert found.fsid != (0, 0)


def test_syncfs_of_a_bad_descriptor_is_an_error() -> None:
    with pytest.raises(OSError) as caught:
        files.syncfs(-1)
    assert caught.value.errno == errno.EBADF


@pytest.fixture(params=["openat2", "by components"])
def opener(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "by components":
        monkeypatch.setitem(files.SYSCALLS, "openat2", 9999)  # ENOSYS, as on Linux 5.5
    return str(request.param)


def test_open_beneath_stays_beneath(tmp_path: Path, opener: str) -> None:
    (tmp_path / "secret").write_text("outside")
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "file").write_text("inside")
    (root / "up").symlink_to("..")
    (root / "a" / "link").symlink_to("b")
    (root / "last").symlink_to("a/b/file")
    fd = os.open(root, os.O_RDONLY)
    try:
        inside = files.open_beneath(fd, b"a/b/file", os.O_RDONLY)
        assert os.read(inside, 10) == b"inside"
        os.close(inside)
        os.close(files.open_beneath(fd, b".", os.O_RDONLY | os.O_DIRECTORY))
        made = files.open_beneath(fd, b"a/new", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
        os.close(made)
        for path in (b"../secret", b"/etc/passwd", b"up/secret", b"a/link/file", b"last"):
            with pytest.raises(OSError) as caught:
                os.close(files.open_beneath(fd, path, os.O_RDONLY))
            assert caught.value.errno in (errno.EXDEV, errno.ELOOP, errno.ENOTDIR), path
    finally:
        os.close(fd)


def test_open_beneath_a_path_longer_than_path_max(tmp_path: Path) -> None:
    name = b"d" * 250
    fd = root = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir(name, dir_fd=fd)
        inner = os.open(name, os.O_RDONLY, dir_fd=fd)
        if fd != root:
            os.close(fd)
        fd = inner
    os.close(fd)
    os.close(files.open_beneath(root, b"/".join([name] * 20), os.O_RDONLY | os.O_DIRECTORY))
    os.close(root)


def test_aligned_buffer_serves_direct_reads(disk: Path) -> None:
    (disk / "direct").write_bytes(bytes(range(256)) * 64)
    fd = os.open(disk / "direct", os.O_RDONLY | os.O_DIRECT)
    with files.aligned_buffer(16384) as buffer:
        assert os.preadv(fd, [buffer], 0) == 16384
        assert buffer[:] == bytes(range(256)) * 64
    os.close(fd)
