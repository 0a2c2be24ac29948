"""The extent map of real files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.platform.linux import fiemap as fm
from tests.loopfs import loop_filesystem

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def ext4() -> Iterator[Path]:
    with loop_filesystem("ext4", 64) as mountpoint:
        yield mountpoint


def test_sync_maps_data_that_was_just_written(ext4: Path) -> None:
    fd = os.open(ext4 / "new", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"x" * 10000, 0)
    assert any(extent.flags & fm.DELALLOC for extent in fm.fiemap(fd, sync=False))
    (extent,) = fm.fiemap(fd)
    assert (extent.logical, extent.length) == (0, 12288)
    assert extent.physical > 0
    assert extent.flags == fm.LAST
    os.close(fd)


def test_more_extents_than_one_call_returns(ext4: Path) -> None:
    fd = os.open(ext4 / "holes", os.O_RDWR | os.O_CREAT)
    for number in range(700):
        os.pwrite(fd, b"x", number * 8192)
    found = fm.fiemap(fd)
    assert [extent.logical for extent in found] == [number * 8192 for number in range(700)]
    assert [extent.logical for extent in fm.fiemap(fd, 8192 * 3, 8192 * 2)] == [8192 * 3, 8192 * 4]
    os.close(fd)


def test_an_empty_file_has_no_extents(ext4: Path) -> None:
    fd = os.open(ext4 / "empty", os.O_RDWR | os.O_CREAT)
    assert fm.fiemap(fd) == []
    os.close(fd)


def test_a_file_system_without_a_map_says_so() -> None:
    with open("/proc/self/status", "rb") as file, pytest.raises(OSError):
        fm.fiemap(file.fileno())
