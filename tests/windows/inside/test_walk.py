"""What the walk reads of an object: the same things that another program says of it."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
from pathlib import Path

import pytest

from livelift.model.problem import Problem
from livelift.platform.windows import dll, files, posix
from livelift.platform.windows.information import fold_reference, to_filetime
from livelift.walk import windows as walk
from livelift.walk.windows_content import read_small


@pytest.fixture
def top(tmp_path: Path) -> int:
    return posix.open(str(tmp_path), posix.O_DIRECTORY)


def xattrs(top: int, name: bytes) -> dict[bytes, bytes]:
    return dict(walk.attributes_at(top, name).xattrs)


def test_the_whole_of_a_small_file(top: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content" * 100)
    os.utime(tmp_path / "a", ns=(1_500_000_000_123_456_700, 1_400_000_000_765_432_100))
    small = read_small(top, b"a")
    assert small is not None
    assert small.payload == b"content" * 100
    assert small.extents == ((0, 700),)
    assert small.inode == fold_reference((tmp_path / "a").stat().st_ino)
    assert small.attributes.mtime == 1_400_000_000_765_432_100
    assert small.attributes.xattrs == walk.attributes_at(top, b"a").xattrs, "asked by name or by descriptor"
    assert read_small(top, b"a", 699) is None


def test_attribute_bits_and_creation_time_travel(top: int, tmp_path: Path) -> None:
    path = tmp_path / "readonly"
    path.write_bytes(b"")
    subprocess.run(["attrib", "+r", str(path)], check=True)
    found = xattrs(top, b"readonly")
    (bits,) = struct.unpack(">I", found[b"trusted.ntfs_attrib_be"])
    assert bits & 1
    (created,) = struct.unpack(">q", found[b"trusted.ntfs_crtime_be"])
    assert abs(created - to_filetime(path.stat().st_birthtime_ns)) <= 10
    assert not walk.attributes_at(top, b"readonly").mode & 0o222
    subprocess.run(["attrib", "-r", str(path)], check=True)


def test_the_security_descriptor_travels(top: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    raw = xattrs(top, b"a")[b"trusted.ntfs_acl"]
    handle = files.open_path(str(tmp_path / "a"), 0x20000)
    try:
        want = files.security_descriptor(handle, files.OWNER | files.GROUP | files.DACL)
    finally:
        files.close(handle)
    owner = struct.unpack_from("<I", raw, 4)[0]
    assert raw[owner : owner + 28] in want, "the owner's SID"
    assert raw[0] == 1 and struct.unpack_from("<H", raw, 2)[0] & 0x8000, "self-relative"


def test_listing_gives_kinds_and_references(top: int, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    for n in range(300):
        (tmp_path / f"name with {n} ☃").write_bytes(b"")
    listed = [entry for chunk in walk.list_directory(top) for entry in chunk]
    assert {entry.name for entry in listed} == {os.fsencode(n) for n in os.listdir(tmp_path)}
    kinds = {entry.name: entry.kind for entry in listed}
    assert kinds[b"dir"] == stat.S_IFDIR
    for entry in listed[:20]:
        assert entry.inode == posix.stat(entry.name, dir_fd=top, follow_symlinks=False).st_ino
    assert [e for chunk in walk.list_directory(top) for e in chunk] == listed, "a second listing begins anew"


def test_a_directory_tells_of_itself(top: int) -> None:
    attributes = walk.attributes_at(top, b"")
    assert stat.S_ISDIR(attributes.mode)
    assert attributes.nlink == 1


@pytest.mark.real("it keeps no alternate streams")
def test_alternate_streams_travel(top: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "a:Zone.Identifier").write_bytes(b"[ZoneTransfer]")
    assert xattrs(top, b"a")[b"user.Zone.Identifier"] == b"[ZoneTransfer]"


@pytest.mark.real("it keeps no alternate streams")
def test_a_stream_that_cannot_travel_is_told(top: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "a:large").write_bytes(bytes(100_000))
    told: list[tuple[str, str]] = []
    found = walk.attributes_at(top, b"a", lambda code, detail: told.append((code, detail)))
    assert b"user.large" not in dict(found.xattrs)
    assert [code for code, _ in told] == [walk.STREAM_TOO_LARGE]


def test_what_is_mended_is_no_problem_any_more(top: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    reader = walk.Reader()
    handle = files.open_at(dll.handle_of(top), b"a", files.READ)
    try:
        path = files.path_on_volume(handle)
    finally:
        files.close(handle)
    other = (b"other", walk.STREAM_TOO_LARGE)
    for key in ((path, walk.STREAM_TOO_LARGE), other):
        reader.problems[key] = Problem(key[0], key[1], "found by an earlier reading", "")
    reader.attributes_at(top, b"a")
    assert list(reader.problems) == [other]


@pytest.mark.real("its junctions are symbolic links of the host")
def test_junctions_and_symlinks_are_not_followed(top: int, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    subprocess.run(["cmd", "/c", "mklink", "/J", str(tmp_path / "j"), str(tmp_path / "dir")], check=True)
    os.symlink("dir\\x", tmp_path / "s")
    for name, target in ((b"j", os.fsencode(tmp_path / "dir").replace(b"\\", b"/")), (b"s", b"dir/x")):
        found = walk.attributes_at(top, name)
        assert stat.S_ISLNK(found.mode) and found.target == target
        assert dict(found.xattrs)[b"trusted.ntfs_reparse_data"]
    with pytest.raises(OSError):
        posix.open(b"j", posix.O_DIRECTORY | posix.O_NOFOLLOW, dir_fd=top)


@pytest.mark.real("it tells nothing of allocated ranges")
def test_the_holes_of_a_sparse_file_are_not_read(top: int, tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.write_bytes(b"")
    subprocess.run(["fsutil", "sparse", "setflag", str(path)], check=True)
    with path.open("r+b") as file:
        file.seek(200_000)
        file.write(b"end")
    small = read_small(top, b"sparse")
    assert small is not None and len(small.payload) < 100_000
    assert sum(small.extents[-1]) == 200_003


@pytest.mark.real("short names are made up there")
def test_the_short_name_travels(top: int, tmp_path: Path) -> None:
    (tmp_path / "a long name with spaces.text").write_bytes(b"")
    handle = files.open_at(dll.handle_of(top), b"a long name with spaces.text", files.LOOK)
    short = files.short_name(handle)
    files.close(handle)
    if not short:
        pytest.skip("8.3 names are switched off on this volume")
    assert xattrs(top, b"a long name with spaces.text")[b"trusted.ntfs_dos_name"] == short


@pytest.mark.real("drive C: is a directory of the host")
def test_volatile_places_of_the_volume_are_left_out() -> None:
    root = posix.open("C:\\", posix.O_DIRECTORY)
    names = {entry.name for chunk in walk.list_directory(root) for entry in chunk}
    assert b"Windows" in names
    assert not names & {b"pagefile.sys", b"hiberfil.sys", b"System Volume Information", b"$Recycle.Bin"}
