"""File handles of real file systems decode to the real inode and generation."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.platform.linux import handles, inode_flags
from tests.loopfs import loop_filesystem

pytestmark = pytest.mark.root


@pytest.fixture(scope="module", params=["ext4", "xfs", "btrfs", "tmpfs"])
def disk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if request.param == "tmpfs":
        if not os.path.ismount("/dev/shm"):
            pytest.skip("no tmpfs at /dev/shm")
        path = Path("/dev/shm") / f"livelift-handles-{os.getpid()}"
        path.mkdir()
        yield path
        path.rmdir()
        return
    with loop_filesystem(request.param, 64) as mountpoint:
        yield mountpoint


def test_handle_names_the_inode_and_opens_it(disk: Path) -> None:
    path = disk / "file"
    path.write_text("content")
    root = os.open(disk, os.O_RDONLY)
    fd = os.open(path, os.O_RDONLY)
    try:
        handle, mount_id = handles.handle_of(root, b"file")
        assert handles.handle_of(fd, b"", handles.EMPTY_PATH)[0] == handle
        decoded = handles.inode_of_handle(handle)
        assert decoded is not None
        assert decoded[0] == path.stat().st_ino
        if generation := inode_flags.generation(fd):
            assert decoded[1] == generation & 0xFFFFFFFF
        with open("/proc/self/mountinfo", "rb") as table:
            mounts = {int(line.split()[0]): line.split()[4] for line in table}
        assert mounts[mount_id] == os.fsencode(disk) or disk.is_relative_to(os.fsdecode(mounts[mount_id]))

        path.rename(disk / "renamed")
        opened = handles.open_handle(root, handle, os.O_RDONLY)
        assert os.read(opened, 20) == b"content"
        os.close(opened)
    finally:
        os.close(fd)
        os.close(root)
        (disk / "renamed").unlink()


def test_directory_and_symlink_have_handles(disk: Path) -> None:
    (disk / "dir").mkdir()
    (disk / "link").symlink_to("dir")
    root = os.open(disk, os.O_RDONLY)
    try:
        for name in (b"dir", b"link"):
            handle, _ = handles.handle_of(root, name)
            decoded = handles.inode_of_handle(handle)
            assert decoded is not None
            assert decoded[0] == os.lstat(disk / os.fsdecode(name)).st_ino
            opened = handles.open_handle(root, handle, os.O_PATH)
            assert os.fstat(opened).st_ino == decoded[0]
            os.close(opened)
    finally:
        os.close(root)
        (disk / "link").unlink()
        (disk / "dir").rmdir()


def test_the_handle_of_a_removed_file_is_stale(disk: Path) -> None:
    (disk / "gone").write_text("")
    root = os.open(disk, os.O_RDONLY)
    try:
        handle, _ = handles.handle_of(root, b"gone")
        (disk / "gone").unlink()
        with pytest.raises(OSError) as caught:
            handles.open_handle(root, handle, os.O_RDONLY)
        assert caught.value.errno == errno.ESTALE
    finally:
        os.close(root)


def test_no_handles_and_no_such_name(tmp_path: Path) -> None:
    root = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(FileNotFoundError):
        handles.handle_of(root, b"missing")
    os.close(root)


@pytest.mark.parametrize("handle", [b"", b"\1\0\0\0", b"\1\0\0\0\2", handles.pack_handle(0xF1, bytes(24))])
def test_unknown_layouts_are_none(handle: bytes) -> None:
    assert handles.inode_of_handle(handle) is None


def test_inode_numbers_above_32_bits() -> None:
    body = (1 << 40 | 5).to_bytes(8, "little") + (77).to_bytes(4, "little")
    assert handles.inode_of_handle(handles.pack_handle(handles.INO64_GEN, body)) == (1 << 40 | 5, 77)
