"""Which files are mapped shared and writable right now, by any process."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.platform.linux.mapped import writable_shared_mappings
from tests.loopfs import loop_filesystem

pytestmark = pytest.mark.root


@pytest.fixture(scope="module", params=["ext4", "btrfs"])
def disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    with loop_filesystem(request.param, 64) as mountpoint:
        yield mountpoint


def test_only_shared_writable_file_mappings(disk: Path) -> None:
    keys = {}
    maps = []
    for name, flags, prot in (
        ("shared", mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
        ("private", mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE),
        ("readonly", mmap.MAP_SHARED, mmap.PROT_READ),
        ("with space\n and newline", mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
    ):
        with open(disk / name, "w+b") as file:
            file.truncate(8192)
            status = os.fstat(file.fileno())
            keys[name] = (status.st_dev, status.st_ino)
            maps.append(mmap.mmap(file.fileno(), 8192, flags, prot))
    anonymous = mmap.mmap(-1, 4096)
    found = writable_shared_mappings()
    assert {name for name, key in keys.items() if key in found} == {"shared", "with space\n and newline"}
    for mapped in (*maps, anonymous):
        mapped.close()
    assert not writable_shared_mappings() & set(keys.values())


def test_a_file_that_was_unlinked_is_still_told(disk: Path) -> None:
    with open(disk / "gone", "w+b") as file:
        file.truncate(4096)
        status = os.fstat(file.fileno())
        with mmap.mmap(file.fileno(), 4096):
            os.unlink(disk / "gone")
            assert (status.st_dev, status.st_ino) in writable_shared_mappings()


def test_processes_that_vanish_and_lines_that_lie_are_tolerated(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()  # no maps: it ended
    (tmp_path / "self").mkdir()
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "maps").write_bytes(
        b"7f00-7f10 rw-s 00000000 fd:01 42                         /var/lib/db (deleted)\n"
        b"7f20-7f30 rw-s 00000000 00:05 43                         /dev/zero (deleted)\n"
        b"7f40-7f50 r--s 00000000 fd:01 44                         /var/lib/other\n"
        b"7f60-7f70 rw-p 00000000 fd:01 45                         /lib/x.so\n"
    )
    assert writable_shared_mappings(os.fsencode(tmp_path)) == {(os.makedev(0xFD, 1), 42)}
