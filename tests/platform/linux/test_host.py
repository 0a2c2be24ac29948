"""Small questions to the kernel, and what descriptors can be told."""

from __future__ import annotations

import fcntl
import os
import re
import time
from pathlib import Path

import pytest

from livelift.platform.linux import host


def test_the_boot_has_an_id() -> None:
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", host.boot_id())
    assert host.boot_id() == host.boot_id()


def test_no_change_gets_an_earlier_time_than_the_clock_of_change_times(tmp_path: Path) -> None:
    """The finer clock is ahead of it by up to a tick, so what changes behind a look may get a time of before it."""
    path = tmp_path / "file"
    for _ in range(300):
        clock = host.stamp_clock()
        path.write_bytes(b"x")
        assert path.stat().st_ctime_ns >= clock
    assert len({host.stamp_clock() for _ in range(1000)}) < 100, "it moves in ticks"
    assert abs(host.stamp_clock() - time.time_ns()) < 1_000_000_000


def test_idle_time_grows_no_faster_than_all_processors_together() -> None:
    before, cores = host.idle_and_cores()
    began = time.monotonic()
    time.sleep(0.3)
    after, _ = host.idle_and_cores()
    elapsed = time.monotonic() - began
    assert cores == os.sysconf("SC_NPROCESSORS_ONLN")
    assert 0 <= after - before <= elapsed * cores + 0.1 * cores


def test_a_lock_keeps_others_out_until_it_is_closed(tmp_path: Path) -> None:
    first, second = (os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    host.lock_exclusive(first)
    with pytest.raises(BlockingIOError):
        host.lock_exclusive(second)
    os.close(first)
    host.lock_exclusive(second)
    os.close(second)


def test_private_is_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"")
    path.chmod(0o640)
    with path.open() as file:
        assert not host.is_private(file.fileno())
        host.make_private(path)
        assert host.is_private(file.fileno())
    host.make_private(tmp_path)
    assert (path.stat().st_mode & 0o777, tmp_path.stat().st_mode & 0o777) == (0o600, 0o700)


def test_data_behind_a_hole(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(3 << 20)
        file.seek(1 << 20)
        file.write(b"x")
    if path.stat().st_blocks * 512 >= 3 << 20:
        pytest.skip("this file system has no holes")
    fd = os.open(path, os.O_RDONLY)
    assert host.next_data(fd, 0, 3 << 20) == 1 << 20
    assert host.next_data(fd, 2 << 20, 3 << 20) == 3 << 20, "none: the end"
    os.close(fd)


def test_direct_io_is_switched_where_there_is_such(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    host.direct_io(fd, True)
    host.direct_io(fd, False)
    assert not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT
    os.close(fd)
