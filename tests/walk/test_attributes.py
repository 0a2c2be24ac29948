"""Every kind of object on a real ext4, with everything that can hang on it."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from livelift.model.entry import Attributes
from livelift.platform.linux import handles, inode_flags
from livelift.walk import attributes
from livelift.walk.attributes import attributes_at, attributes_of_fd, attributes_of_pinned, xattrs_of
from livelift.walk.content import read_small
from tests.loopfs import loop_filesystem

pytestmark = pytest.mark.root

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # VFS_CAP_REVISION_2 | EFFECTIVE, cap_net_bind_service
NOBODY = 2**32 - 1  # ACL_UNDEFINED_ID
NAME_255 = b"\xff\xfe" + b"n" * 253


@pytest.fixture(scope="module")
def ext4() -> Iterator[Path]:
    with loop_filesystem("ext4", 64) as mountpoint:
        yield mountpoint


@pytest.fixture
def directory(ext4: Path) -> Iterator[int]:
    fd = os.open(ext4, os.O_RDONLY)
    yield fd
    os.close(fd)


def both_ways(directory: int, name: bytes) -> Attributes:
    """`attributes_at`, which must agree with the way through an open descriptor."""
    found = attributes_at(directory, name)
    st = os.lstat(b"/proc/self/fd/%d/%b" % (directory, name))
    assert (found.mode, found.uid, found.gid, found.size, found.nlink) == (
        st.st_mode,
        st.st_uid,
        st.st_gid,
        st.st_size,
        st.st_nlink,
    )
    assert (found.mtime, found.ctime) == (st.st_mtime_ns, st.st_ctime_ns)
    if not stat.S_ISLNK(found.mode):  # readlink sets a symlink's
        assert found.atime == st.st_atime_ns
    if stat.S_ISREG(found.mode) or stat.S_ISDIR(found.mode):
        fd = os.open(name, os.O_RDONLY | os.O_NOATIME, dir_fd=directory)
        assert attributes_of_fd(fd, os.fstat(fd)) == found
        os.close(fd)
    return found


def test_regular_file_with_everything(ext4: Path, directory: int) -> None:
    path = ext4 / os.fsdecode(NAME_255)
    path.write_bytes(b"content")
    os.chown(path, 4_000_000_000, 12345)
    os.chmod(path, 0o6751)
    for key, value in {
        "user.empty": b"",
        "user.\xe9\n": b"\0\xff",
        "trusted.overlay.opaque": b"y",
        "security.capability": CAPABILITY,
        "security.selinux": b"system_u:object_r:etc_t:s0\0",
    }.items():
        os.setxattr(path, key, value)
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, perm, who)
        for tag, perm, who in ((1, 7, NOBODY), (2, 5, 1000), (4, 5, NOBODY), (16, 5, NOBODY), (32, 1, NOBODY))
    )
    os.setxattr(path, "system.posix_acl_access", acl)
    os.chmod(path, 0o6751)
    os.setxattr(path, "security.capability", CAPABILITY)
    os.utime(path, ns=(1_700_000_000_123_456_789, -315_619_199_999_999_999))  # 1960, with nanoseconds
    found = both_ways(directory, NAME_255)
    assert stat.S_IMODE(found.mode) == 0o6751
    assert (found.uid, found.gid, found.size) == (4_000_000_000, 12345, 7)
    assert (found.mtime, found.atime) == (-315_619_199_999_999_999, 1_700_000_000_123_456_789)
    keys = [key for key, _ in found.xattrs]
    assert keys == sorted(keys)
    values = dict(found.xattrs)
    assert values[b"user.empty"] == b""
    assert values["user.\xe9\n".encode()] == b"\0\xff"
    assert values[b"trusted.overlay.opaque"] == b"y"
    assert values[b"security.capability"] == CAPABILITY
    assert values[b"security.selinux"] == b"system_u:object_r:etc_t:s0\0"
    assert len(values[b"system.posix_acl_access"]) == 4 + 5 * 8
    small = read_small(directory, NAME_255)
    assert small is not None
    assert small.attributes == found


def test_directory_with_default_acl_and_setgid(ext4: Path, directory: int) -> None:
    (ext4 / "dir").mkdir()
    os.chmod(ext4 / "dir", 0o3775)
    entries = ((1, 7), (4, 5), (32, 0))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, perm, 2**32 - 1) for tag, perm in entries)
    os.setxattr(ext4 / "dir", "system.posix_acl_default", acl)
    found = both_ways(directory, b"dir")
    assert found.is_dir
    assert stat.S_IMODE(found.mode) == 0o3775
    assert dict(found.xattrs) == {b"system.posix_acl_default": acl}
    fd = os.open(ext4 / "dir", os.O_RDONLY)
    assert attributes_at(fd, b"") == found, "an empty name is the directory itself"
    os.close(fd)


def test_symlink_itself_with_its_own_xattrs(ext4: Path, directory: int) -> None:
    (ext4 / "target").write_text("x")
    os.setxattr(ext4 / "target", "trusted.of", b"the target")
    for name, text in {b"good": b"target", b"broken": b"\xffno/such\n", b"loop": b"loop", b"long": b"x" * 4095}.items():
        path = os.fsencode(ext4) + b"/" + name
        os.symlink(text, path)
        os.setxattr(path, "trusted.of", b"the link " + name, follow_symlinks=False)
        os.utime(path, ns=(1, 2), follow_symlinks=False)
        os.chown(path, 5, 6, follow_symlinks=False)
        found = both_ways(directory, name)
        assert stat.S_ISLNK(found.mode)
        assert found.target == text
        assert dict(found.xattrs) == {b"trusted.of": b"the link " + name}
        assert (found.uid, found.gid, found.mtime) == (5, 6, 2)


def test_devices_fifos_and_sockets_are_never_opened(ext4: Path, directory: int) -> None:
    os.mknod(ext4 / "char", stat.S_IFCHR | 0o620, os.makedev(10, 250))  # nobody answers: open would be ENXIO or ENODEV
    os.mknod(ext4 / "block", stat.S_IFBLK | 0o660, os.makedev(259, 1048575))
    os.mkfifo(ext4 / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(ext4 / "socket"))
    kinds = {b"char": stat.S_ISCHR, b"block": stat.S_ISBLK, b"fifo": stat.S_ISFIFO, b"socket": stat.S_ISSOCK}
    for name, is_kind in kinds.items():
        os.setxattr(b"/proc/self/fd/%d/%b" % (directory, name), "trusted.t", name)
        found: list[Attributes] = []
        thread = threading.Thread(target=lambda name=name, found=found: found.append(both_ways(directory, name)))
        thread.start()
        thread.join(5)
        assert found, f"{name!r} blocks"
        assert is_kind(found[0].mode)
        assert dict(found[0].xattrs) == {b"trusted.t": name}
    assert both_ways(directory, b"char").rdev == os.makedev(10, 250)
    assert both_ways(directory, b"block").rdev == os.makedev(259, 1048575)
    assert both_ways(directory, b"fifo").rdev == 0


@pytest.mark.parametrize("letters", ["i", "a", "dA", "id"])
def test_inode_flags(ext4: Path, directory: int, letters: str) -> None:
    (ext4 / "flagged").write_text("x")
    subprocess.run(["chattr", f"+{letters}", ext4 / "flagged"], check=True)
    try:
        found = both_ways(directory, b"flagged")
    finally:
        subprocess.run(["chattr", f"-{letters}", ext4 / "flagged"], check=True)
        (ext4 / "flagged").unlink()
    values = {"i": inode_flags.IMMUTABLE, "a": inode_flags.APPEND, "d": inode_flags.NODUMP, "A": inode_flags.NOATIME}
    assert found.flags & inode_flags.SETTABLE == sum(values[letter] for letter in letters)


@pytest.mark.parametrize("fstype", ["ext4", "xfs"])
def test_project_id(fstype: str) -> None:
    with ExitStack() as stack:
        try:
            extra = (["-O", "project,quota"], "prjquota") if fstype == "ext4" else ((), "")
            disk = stack.enter_context(loop_filesystem(fstype, 64, *extra))
        except AssertionError as error:
            pytest.skip(f"this kernel mounts no {fstype} with projects (CONFIG_QFMT_V2?): {error}")
        (disk / "file").write_text("x")
        with (disk / "file").open("rb") as file:
            inode_flags.set_project(file.fileno(), 77)
        fd = os.open(disk, os.O_RDONLY)
        assert both_ways(fd, b"file").project == 77
        os.close(fd)


def test_hard_links_and_a_path_longer_than_path_max(ext4: Path) -> None:
    name = b"d" * 255
    fd = os.open(ext4, os.O_RDONLY)
    for _ in range(20):
        os.mkdir(name, dir_fd=fd)
        inner = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.mknod(b"deep", 0o100600, dir_fd=fd)
    os.link(b"deep", b"again", src_dir_fd=fd, dst_dir_fd=fd)
    os.symlink(b"deep", b"link", dir_fd=fd)
    assert attributes_at(fd, b"deep").nlink == 2
    assert attributes_at(fd, b"link").target == b"deep"
    assert attributes_at(fd, b"").is_dir
    small = read_small(fd, b"again")
    assert small is not None
    assert small.attributes.nlink == 2
    os.close(fd)


def test_by_handle(ext4: Path, directory: int) -> None:
    for make in (lambda path: path.write_text("x"), lambda path: path.symlink_to("y"), lambda path: path.mkdir()):
        make(ext4 / "handled")
        fd = handles.open_handle(directory, handles.handle_of(directory, b"handled")[0], os.O_PATH)
        pinned, named = attributes_of_pinned(fd), attributes_at(directory, b"handled")
        assert (pinned.mode, pinned.mtime, pinned.target) == (named.mode, named.mtime, named.target)
        assert os.fstat(fd).st_ino == (ext4 / "handled").lstat().st_ino
        os.close(fd)
        (ext4 / "handled").rmdir() if (ext4 / "handled").is_dir() else (ext4 / "handled").unlink()


def test_a_name_that_is_gone(directory: int) -> None:
    with pytest.raises(FileNotFoundError):
        attributes_at(directory, b"no such name")


def test_atime_is_left_alone(ext4: Path, directory: int) -> None:
    (ext4 / "aged").mkdir()
    os.utime(ext4 / "aged", ns=(5, 6))
    assert attributes_at(directory, b"aged").atime == 5
    assert (ext4 / "aged").stat().st_atime_ns == 5


def test_an_xattr_that_is_refused_is_told_and_the_rest_is_kept(
    ext4: Path, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ext4 / "secret"
    path.write_text("x")
    os.setxattr(path, "user.a", b"1")
    os.setxattr(path, "security.b", b"2")
    os.setxattr(path, "user.c", b"3")
    real = os.getxattr

    def refuse(file: int | bytes, name: bytes) -> bytes:
        if name == b"security.b":
            raise PermissionError(errno.EPERM, "Operation not permitted")
        if name == b"user.c":
            raise OSError(errno.ENODATA, "removed meanwhile")
        return real(file, name)

    monkeypatch.setattr(os, "getxattr", refuse)
    told: list[tuple[str, str]] = []
    found = attributes_at(directory, b"secret", lambda code, detail: told.append((code, detail)))
    assert dict(found.xattrs) == {b"user.a": b"1"}
    assert told == [(attributes.XATTR_UNREADABLE, "'security.b': Operation not permitted")]
    with pytest.raises(PermissionError):
        attributes_at(directory, b"secret")


def test_a_file_system_without_xattrs(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(file: int | bytes) -> list[str]:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "listxattr", none)
    assert xattrs_of(b"/") == ()


def test_a_file_that_may_not_be_opened_still_has_attributes(
    ext4: Path, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ext4 / "closed").write_text("x")
    os.setxattr(ext4 / "closed", "user.a", b"1")

    def refuse(pinned: int) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(attributes, "reopen", refuse)
    told: list[tuple[str, str]] = []
    found = attributes_at(directory, b"closed", lambda code, detail: told.append((code, detail)))
    assert found.size == 1
    assert dict(found.xattrs) == {b"user.a": b"1"}
    assert [code for code, _ in told] == [attributes.FLAGS_UNREADABLE]
    with pytest.raises(OSError, match="Input/output error"):
        attributes_at(directory, b"closed")
