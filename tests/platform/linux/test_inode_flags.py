"""Flags, project id and generation against lsattr's and the kernel's own view."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from livelift.platform.linux import inode_flags as flags
from tests.loopfs import loop_filesystem

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def ext4() -> Iterator[Path]:
    with loop_filesystem("ext4", 32) as mountpoint:
        yield mountpoint


@pytest.fixture(scope="module", params=["ext4", "xfs"])
def projects(request: pytest.FixtureRequest) -> Iterator[Path]:
    with ExitStack() as stack:
        if request.param == "xfs":  # has always had project ids
            yield stack.enter_context(loop_filesystem("xfs"))
            return
        try:
            mountpoint = stack.enter_context(loop_filesystem("ext4", 32, ["-O", "project,quota"], "prjquota"))
        except AssertionError as error:
            pytest.skip(f"this kernel mounts no ext4 with projects (CONFIG_QFMT_V2?): {error}")
        yield mountpoint


@pytest.fixture
def fd(ext4: Path, request: pytest.FixtureRequest) -> Iterator[int]:
    number = os.open(ext4 / request.node.name, os.O_RDWR | os.O_CREAT, 0o600)
    yield number
    os.close(number)


def test_flags_agree_with_lsattr(ext4: Path, fd: int, request: pytest.FixtureRequest) -> None:
    flags.set_flags(fd, flags.IMMUTABLE | flags.NODUMP | flags.NOATIME)
    shown = subprocess.run(["lsattr", ext4 / request.node.name], capture_output=True, text=True, check=True).stdout
    assert set(shown.split()[0]) >= {"i", "d", "A"}
    assert flags.get_flags(fd) & flags.SETTABLE == flags.IMMUTABLE | flags.NODUMP | flags.NOATIME
    with pytest.raises(PermissionError):
        os.open(ext4 / request.node.name, os.O_RDWR)
    flags.set_flags(fd, 0)
    os.write(fd, b"again writable")


def test_flags_that_describe_storage_are_left_alone(fd: int) -> None:
    extents = flags.get_flags(fd) & ~flags.SETTABLE
    assert extents & 0x80000, "ext4 shows EXTENTS"
    flags.set_flags(fd, flags.APPEND)
    assert flags.get_flags(fd) & ~flags.SETTABLE == extents
    flags.set_flags(fd, 0x10000000)  # INLINE_DATA can not be set: no call, no error
    assert flags.get_flags(fd) & flags.SETTABLE == 0


def test_a_file_system_without_flags_answers_nothing() -> None:
    fd = os.open("/proc/self/status", os.O_RDONLY)
    try:
        assert (flags.get_flags(fd), flags.get_project(fd), flags.generation(fd)) == (0, 0, 0)
    finally:
        os.close(fd)


def test_a_flag_that_the_file_system_lacks_is_an_error(fd: int) -> None:
    with pytest.raises(OSError):
        flags.set_flags(fd, flags.CASEFOLD)
    assert flags.get_flags(fd) & flags.SETTABLE == 0


def test_project_id_round_trip(projects: Path) -> None:
    fd = os.open(projects / "file", os.O_RDWR | os.O_CREAT)
    assert flags.get_project(fd) == 0
    flags.set_project(fd, 4242)
    assert flags.get_project(fd) == 4242
    os.close(fd)
    directory = os.open(projects, os.O_RDONLY)
    flags.set_flags(directory, flags.PROJINHERIT)
    flags.set_project(directory, 7)
    assert flags.get_flags(directory) & flags.SETTABLE == flags.PROJINHERIT, "the project id does not touch the flags"
    os.close(directory)
    child = os.open(projects / "inherits", os.O_RDWR | os.O_CREAT)
    assert flags.get_project(child) == 7
    os.close(child)


def test_no_project_ids(ext4: Path, fd: int) -> None:
    flags.set_project(fd, 0)
    with pytest.raises(OSError):
        flags.set_project(fd, 5)


def test_generation_tells_a_reused_inode(ext4: Path) -> None:
    seen: dict[int, int] = {}
    for _ in range(8):
        fd = os.open(ext4 / "reused", os.O_RDWR | os.O_CREAT)
        inode, generation = os.fstat(fd).st_ino, flags.generation(fd)
        os.close(fd)
        os.unlink(ext4 / "reused")
        if inode in seen:
            assert seen[inode] != generation
            return
        seen[inode] = generation
    pytest.fail("no inode was reused in 8 rounds")
