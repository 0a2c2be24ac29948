from __future__ import annotations

import os

import pytest

from livelift.platform.linux.fanotify import (
    ATTRIB,
    CLOEXEC,
    MARK_ADD,
    MARK_INODE,
    MARK_REMOVE,
    NONBLOCK,
    REPORT_FID,
    fanotify_init,
    fanotify_mark,
)

pytestmark = pytest.mark.root


def test_a_mark_reports_until_it_is_removed() -> None:
    group, file = fanotify_init(CLOEXEC | NONBLOCK | REPORT_FID), os.memfd_create("test")
    try:
        assert not os.get_inheritable(group)
        fanotify_mark(group, MARK_ADD | MARK_INODE, ATTRIB, file)
        os.fchmod(file, 0o600)
        assert len(os.read(group, 4096)) > 24
        fanotify_mark(group, MARK_REMOVE | MARK_INODE, ATTRIB, file)
        os.fchmod(file, 0o640)
        with pytest.raises(BlockingIOError):
            os.read(group, 4096)
    finally:
        os.close(group)
        os.close(file)


def test_errors_carry_errno() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        fanotify_init(1 << 31)
    with pytest.raises(OSError, match="Bad file descriptor"):
        fanotify_mark(-1, MARK_ADD, ATTRIB, -1)
