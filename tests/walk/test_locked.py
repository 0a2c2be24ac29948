"""Sectors hold what the file system shows: on real ext4 and XFS, for every shape of file."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.errors import RetryError
from livelift.platform.linux import fiemap, files, inode_flags
from livelift.walk import locked
from livelift.walk.locked import SectorsError, read_all_sectors, read_sectors
from tests.loopfs import loop_filesystem

pytestmark = pytest.mark.root
MIB = 1 << 20


@pytest.fixture(scope="module", params=["ext4", "ext4 1k", "ext2", "xfs"])
def disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    fstype, *small = request.param.split()
    with loop_filesystem(fstype, 64, ["-b", "1024"] if small else []) as mountpoint:
        yield mountpoint


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("size", [0, 1, 511, 4096, 10_007, 3 * MIB + 17])
def test_just_written_files_of_any_size(disk: Path, size: int) -> None:
    path = disk / "file"
    path.write_bytes(noise(size))
    assert read_all_sectors(os.fsencode(path)) == noise(size)


def test_an_overwrite_is_seen(disk: Path) -> None:
    path = disk / "overwritten"
    path.write_bytes(noise(100_000))
    read_all_sectors(os.fsencode(path))
    with path.open("r+b") as file:
        file.seek(50_000)
        file.write(b"new")
    assert read_all_sectors(os.fsencode(path)) == path.read_bytes()


def test_sparse_and_preallocated(disk: Path) -> None:
    path = disk / "sparse"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, noise(5000), 70_000)
    if disk_type(disk) != "ext2":
        files.fallocate(fd, 0, MIB, MIB)
        os.pwrite(fd, noise(300), MIB + 500_000)
    os.truncate(fd, 5 * MIB + 3)
    os.pwrite(fd, noise(77), 5 * MIB)
    os.close(fd)
    assert read_all_sectors(os.fsencode(path)) == path.read_bytes()
    assert sum(len(data) for _, data in read_sectors(os.fsencode(path))) < MIB


def disk_type(path: Path) -> str:
    return subprocess.run(["findmnt", "-no", "FSTYPE", path], capture_output=True, text=True, check=True).stdout.strip()


def test_fragmented(disk: Path) -> None:
    path = disk / "fragmented"
    with path.open("wb") as file, (disk / "other").open("wb") as other:
        for number in range(12):
            file.write(noise(65536 + number))
            file.flush()
            os.fsync(file.fileno())
            other.write(bytes(65536))
            os.fsync(other.fileno())
        extents = fiemap.fiemap(file.fileno())
    if disk_type(disk) != "xfs":  # XFS preallocates behind growing files and does not fragment here
        assert len(extents) > 1
    assert read_all_sectors(os.fsencode(path)) == path.read_bytes()


def test_a_change_meanwhile_is_an_error_and_the_next_try_is_right(disk: Path) -> None:
    path = disk / "changing"
    path.write_bytes(noise(3 * MIB))  # a moment ago: its stamp is of this very tick of the clock
    chunks = read_sectors(os.fsencode(path))
    next(chunks)
    with path.open("r+b") as file:
        file.write(b"changed")
    with pytest.raises(RetryError, match="changed while its sectors were read"):
        list(chunks)
    assert read_all_sectors(os.fsencode(path)) == path.read_bytes()


def test_replacement_of_blocks_meanwhile_is_an_error(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = disk / "moved"
    path.write_bytes(noise(2 * MIB))
    chunks = read_sectors(os.fsencode(path))
    next(chunks)
    real = fiemap.fiemap
    monkeypatch.setattr(fiemap, "fiemap", lambda fd: [extent._replace(physical=4096) for extent in real(fd)])
    with pytest.raises(RetryError):
        list(chunks)


@pytest.mark.parametrize("flag", sorted(locked._UNREADABLE))
def test_maps_that_are_no_plain_place_are_refused(disk: Path, monkeypatch: pytest.MonkeyPatch, flag: int) -> None:
    path = disk / "odd"
    path.write_bytes(noise(100))
    real = fiemap.fiemap
    monkeypatch.setattr(fiemap, "fiemap", lambda fd: [extent._replace(flags=flag) for extent in real(fd)])
    with pytest.raises(SectorsError, match="it lies in"):
        read_all_sectors(os.fsencode(path))


def test_data_in_the_journal_is_refused(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with loop_filesystem("ext4", 64, mount_options="data=journal") as journalled:
        (journalled / "file").write_bytes(b"x")
        with pytest.raises(SectorsError, match="journal"):
            read_all_sectors(os.fsencode(journalled / "file"))
    if disk_type(disk) == "ext4":  # or by chattr +j, which needs CAP_SYS_RESOURCE
        (disk / "file").write_bytes(b"x")
        monkeypatch.setattr(inode_flags, "get_flags", lambda fd: 0x4000)
        with pytest.raises(SectorsError, match="journal"):
            read_all_sectors(os.fsencode(disk / "file"))


def test_opened_by_handle_where_the_name_is_refused(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = disk / "refused"
    path.write_bytes(noise(9000))
    real = os.open

    def refuse(name: bytes, flags: int, *arguments: int, dir_fd: int | None = None) -> int:
        if name == b"refused":
            raise PermissionError(13, "a policy says no")
        return real(name, flags, *arguments, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)
    assert read_all_sectors(os.fsencode(path)) == noise(9000)


def test_what_is_no_regular_file_is_refused(disk: Path) -> None:
    (disk / "link").symlink_to("file")
    os.mkfifo(disk / "fifo")
    for name in ("link", "fifo"):
        with pytest.raises(SectorsError, match="not a regular file"):
            list(read_sectors(os.fsencode(disk / name)))


def test_file_systems_without_plain_places_are_refused() -> None:
    with loop_filesystem("btrfs", 128) as btrfs:
        (btrfs / "file").write_bytes(noise(9000))
        with pytest.raises(SectorsError, match="neither ext2/3/4 nor XFS"):
            read_all_sectors(os.fsencode(btrfs / "file"))


def test_a_device_that_is_none(disk: Path) -> None:
    (disk / "file").write_bytes(b"x")
    with pytest.raises((SectorsError, OSError)):
        read_all_sectors(os.fsencode(disk / "file"), b"/dev/null")
