"""A replica on ntfs-3g says of its objects what their source told."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from livelift.model.entry import Attributes
from livelift.platform.linux.xattrs import get_whole
from livelift.platform.windows.information import ARCHIVE, COMPRESSED, DIRECTORY, HIDDEN, READONLY, SPARSE
from livelift.walk import attributes
from livelift.walk.ntfs_names import settable
from livelift.walk.ntfs_target import attributes_at
from tests.ntfsfs import make_ntfs

CREATED = struct.pack(">q", 132 * 10**15)


def look(top: Path, name: bytes, how: object = attributes_at) -> Attributes:
    fd = os.open(top, os.O_RDONLY)
    try:
        return how(fd, name)  # type: ignore[operator, no-any-return]
    finally:
        os.close(fd)


@pytest.mark.root
def test_what_is_not_listed_is_read_by_name_and_every_change_of_it_is_seen(tmp_path: Path) -> None:
    with make_ntfs(tmp_path, 16).mounted("streams_interface=xattr") as top:
        (top / "a").write_bytes(b"")
        os.setxattr(top / "a", "user.stream", b"s" * 500)
        os.setxattr(top / "a", "system.ntfs_crtime_be", CREATED)
        assert [name for name, _ in look(top, b"a", attributes.attributes_at).xattrs] == [b"user.stream"]
        told = look(top, b"a")
        found = dict(told.xattrs)
        assert (told.mode, told.uid, told.gid) == (0o100644, 0, 0)
        assert found[b"system.ntfs_crtime_be"] == CREATED and found[b"user.stream"] == b"s" * 500
        assert found[b"system.ntfs_acl"] == get_whole(os.fsencode(top / "a"), b"system.ntfs_acl")
        assert told.xattrs == tuple(sorted(told.xattrs))
        os.setxattr(top / "a", "system.ntfs_attrib_be", struct.pack(">I", ARCHIVE | HIDDEN))
        changed = dict(look(top, b"a").xattrs)
        assert changed == {**found, b"system.ntfs_attrib_be": struct.pack(">I", ARCHIVE | HIDDEN)}
        os.setxattr(top / "a", "system.ntfs_dos_name", b"A~1")
        assert dict(look(top, b"a").xattrs) == {**changed, b"system.ntfs_dos_name": b"A~1"}
        os.setxattr(top / "a", "system.ntfs_attrib_be", struct.pack(">I", READONLY))
        assert look(top, b"a").mode == 0o100444, "as the source tells it"
        (top / "link").symlink_to("a")
        link = look(top, b"link")
        assert link.target == b"a" and b"system.ntfs_acl" in dict(link.xattrs)
        assert look(top, b"").mode == 0o040755


def test_forms_that_cannot_be_set_on_files_are_not_compared() -> None:
    assert settable(ARCHIVE | SPARSE | COMPRESSED) == ARCHIVE
    assert settable(DIRECTORY | COMPRESSED) == DIRECTORY | COMPRESSED


def test_on_another_file_system_nothing_is_made_up(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    assert not [name for name, _ in look(tmp_path, b"a").xattrs if name.startswith(b"system.ntfs")]
