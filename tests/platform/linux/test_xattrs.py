"""Values of any length, and what is not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from livelift.platform.linux.xattrs import get_whole
from tests.ntfsfs import make_ntfs


def test_by_path_and_descriptor_and_what_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"")
    os.setxattr(path, "user.x", b"v" * 300)
    assert get_whole(os.fsencode(path), b"user.x") == b"v" * 300
    with path.open("rb") as file:
        assert get_whole(file.fileno(), b"user.x") == b"v" * 300
        assert get_whole(file.fileno(), b"user.none") is None
    assert get_whole(os.fsencode(path), b"system.ntfs_acl") is None, "another file system"
    (tmp_path / "link").symlink_to("a")
    assert get_whole(os.fsencode(tmp_path / "link"), b"user.x", follow=True) == b"v" * 300
    assert get_whole(os.fsencode(tmp_path / "link"), b"user.x") is None
    with pytest.raises(OSError, match="nowhere") as caught:
        get_whole(os.fsencode(tmp_path / "nowhere"), b"user.x")
    assert caught.value.errno == errno.ENOENT


@pytest.mark.root
def test_a_descriptor_longer_than_the_first_buffer_of_python(tmp_path: Path) -> None:
    sid = bytes.fromhex("01020000000000052000000020020000")
    acl = (b"\2\0" + (8 + 24 * 12).to_bytes(2, "little") + b"\x0c\0\0\0") + (b"\0\0\x18\0\xff\x01\x1f\0" + sid) * 12
    descriptor = bytes.fromhex("010004801400000024000000" + "00000000" + "34000000") + sid + sid + acl
    with make_ntfs(tmp_path, 16).mounted() as top:
        (top / "a").write_bytes(b"")
        os.setxattr(top / "a", "system.ntfs_acl", descriptor)
        assert get_whole(os.fsencode(top / "a"), b"system.ntfs_acl") == descriptor
        with pytest.raises(OSError, match="Input/output"):
            os.getxattr(top / "a", "system.ntfs_acl")  # why this module is there
