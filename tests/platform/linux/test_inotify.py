from __future__ import annotations

import os
from pathlib import Path

import pytest

from livelift.platform.linux.inotify import CREATE, inotify_add_watch, inotify_init, watch_limit


def test_a_watch_reports_and_the_same_inode_gets_the_same_watch(tmp_path: Path) -> None:
    instance = inotify_init()
    try:
        assert not os.get_inheritable(instance)
        watch = inotify_add_watch(instance, bytes(tmp_path), CREATE)
        assert inotify_add_watch(instance, bytes(tmp_path / "."), CREATE) == watch
        with pytest.raises(BlockingIOError):
            os.read(instance, 4096)
        (tmp_path / "x").touch()
        assert b"x\0" in os.read(instance, 4096)
    finally:
        os.close(instance)


def test_errors_carry_errno_and_path(tmp_path: Path) -> None:
    instance = inotify_init()
    try:
        with pytest.raises(FileNotFoundError) as caught:
            inotify_add_watch(instance, bytes(tmp_path / "gone"), CREATE)
        assert caught.value.filename == bytes(tmp_path / "gone")
    finally:
        os.close(instance)


def test_the_limit_is_that_of_the_machine() -> None:
    assert watch_limit() == int(Path("/proc/sys/fs/inotify/max_user_watches").read_text())
