"""Attributes: complete, in an order that keeps them, compared first; what cannot be kept is said."""

from __future__ import annotations

import errno
import os
import stat
import struct
import tempfile
import traceback
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from livelift.model.job import Map
from livelift.model.record import Changed, Kind
from livelift.platform.linux.inode_flags import APPEND, IMMUTABLE, NOATIME, NODUMP, SETTABLE, get_flags, set_flags
from livelift.replay.replayer import Replayer
from tests.replay.conftest import Place
from tests.replay.logbook import ROOT, Logbook, T, attributes, directory, snapshot

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service, effective: linux/capability.h


def acl(*entries: tuple[int, int, int]) -> bytes:
    """The xattr form of an ACL: linux/posix_acl_xattr.h."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


ACL = acl((1, 6, 0xFFFFFFFF), (2, 4, 1000), (4, 4, 0xFFFFFFFF), (0x10, 6, 0xFFFFFFFF), (0x20, 4, 0xFFFFFFFF))


def flags_of(place: Place, name: bytes) -> int:
    fd = os.open(place.path(name), os.O_RDONLY)
    try:
        return get_flags(fd) & SETTABLE
    finally:
        os.close(fd)


def unlock(place: Place, *names: bytes) -> None:
    for name in names:
        fd = os.open(place.path(name), os.O_RDONLY)
        set_flags(fd, 0)
        os.close(fd)


@pytest.mark.root
def test_everything_at_once_and_back(ext4: Place) -> None:
    rich: dict[str, Any] = {
        "mode": stat.S_IFREG | 0o4664,
        "uid": 1001,
        "gid": 1002,
        "flags": NODUMP | NOATIME,
        "mtime": -1_500_000_000,
        "atime": 5,
        "xattrs": (
            (b"security.capability", CAPABILITY),
            (b"system.posix_acl_access", ACL),
            (b"trusted.secret", b"\0\xff"),
            (b"user.big", b"x" * 300),
        ),
    }
    log = ext4.log
    log.base(10, ROOT, b"f", b"content", **rich)
    log.base(11, ROOT, b"g", b"content")
    log.attributes(11, ROOT, b"g", attributes(**rich, size=7))
    ext4.apply()
    for name in (b"f", b"g"):
        entry = snapshot(ext4.top, times=True)[name]
        assert stat.S_IMODE(entry[0]) == 0o4664
        assert entry[1:3] == (1001, 1002)
        assert entry[5] == {os.fsdecode(key): value for key, value in rich["xattrs"]}
        assert entry[-1] == -1_500_000_000
        assert os.stat(ext4.path(name)).st_atime_ns == 5
        assert flags_of(ext4, name) == NODUMP | NOATIME
    log.attributes(10, ROOT, b"f", attributes(stat.S_IFREG | 0o640))
    log.base(11, ROOT, b"g", b"again", mode=stat.S_IFREG | 0o640)
    ext4.apply()
    for name in (b"f", b"g"):
        entry = snapshot(ext4.top, times=True)[name]
        assert (stat.S_IMODE(entry[0]), entry[1], entry[2], entry[5], entry[-1]) == (0o640, 0, 0, {}, T)
        assert flags_of(ext4, name) == 0


@pytest.mark.root
def test_what_one_call_changed_leaves_the_rest(ext4: Place) -> None:
    log = ext4.log
    log.base(10, ROOT, b"f", b"content", mode=stat.S_IFREG | 0o4755, mtime=50, atime=60)
    log.mkdir(11, ROOT, b"d", directory(0o750, mtime=50))
    log.symlink(12, ROOT, b"l", b"f", mtime=50)
    ext4.apply()

    def change(oid: int, name: bytes, **what: int) -> tuple[Any, ...]:
        log.add(Kind.CHANGED, Changed(oid, ROOT, name, **what))
        ext4.apply()
        st = os.lstat(ext4.path(name))
        return stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_atime_ns, st.st_mtime_ns

    assert change(10, b"f", uid=1001) == (0o4755, 1001, 0, 60, 50), "chown alone would take the set-id bit"
    assert change(10, b"f", gid=7, mode=stat.S_IFREG | 0o640) == (0o640, 1001, 7, 60, 50)
    assert change(10, b"f", mtime=-5) == (0o640, 1001, 7, 60, -5)
    assert change(10, b"f", atime=9) == (0o640, 1001, 7, 9, -5)
    assert change(11, b"d", mode=stat.S_IFDIR | 0o700, uid=5)[:3] == (0o700, 5, 0)
    assert change(12, b"l", uid=6, mtime=8) == (0o777, 6, 0, change(12, b"l", uid=6)[3], 8)
    assert os.stat(ext4.path(b"f")).st_uid == 1001, "the link, not what it leads to"
    log.attributes(10, ROOT, b"f", attributes(flags=IMMUTABLE))
    assert change(10, b"f", mode=stat.S_IFREG | 0o600)[0] == 0o600
    unlock(ext4, b"f")


@pytest.mark.root
def test_a_symlinks_own_attributes(ext4: Place) -> None:
    ext4.log.symlink(10, ROOT, b"l", b"/etc/passwd", uid=5, gid=6, mtime=77, xattrs=((b"trusted.x", b"1"),))
    ext4.apply()
    entry = snapshot(ext4.top, times=True)[b"l"]
    assert entry[1:3] == (5, 6) and entry[5] == {"trusted.x": b"1"} and entry[-1] == 77
    assert os.stat("/etc/passwd").st_uid == 0


@pytest.mark.root
def test_nothing_is_inherited_from_the_directory(ext4: Place) -> None:
    """set-gid, a default ACL and flags of a directory mark what is made in it; the source's object had none of them."""
    log = ext4.log
    log.mkdir(10, ROOT, b"d", directory(0o2755, gid=50, xattrs=((b"system.posix_acl_default", ACL),), flags=NODUMP))
    log.base(11, 10, b"f", b"x")
    log.create(12, 10, b"g")
    log.mkdir(13, 10, b"sub")
    log.symlink(14, 10, b"l", b"x")
    ext4.apply()
    tree = snapshot(ext4.top)
    for name, mode in [(b"d/f", 0o644), (b"d/g", 0o644), (b"d/sub", 0o755), (b"d/l", 0o777)]:
        assert (stat.S_IMODE(tree[name][0]), tree[name][2], tree[name][5]) == (mode, 0, {}), name
    assert flags_of(ext4, b"d/f") == flags_of(ext4, b"d/sub") == 0
    # The same when the directory gets them after it was opened.
    log.mkdir(20, ROOT, b"e")
    log.base(21, 20, b"before", b"x")
    log.xattr(20, ROOT, b"e", b"system.posix_acl_default", ACL)
    log.base(22, 20, b"after", b"x")
    ext4.apply()
    assert snapshot(ext4.top)[b"e/after"][5] == {}


@pytest.mark.root
def test_immutable_and_append_only(ext4: Place) -> None:
    log = ext4.log
    names = (b"d", b"d/i", b"d/a")
    log.mkdir(10, ROOT, b"d", directory(flags=IMMUTABLE))
    log.base(11, 10, b"i", b"one", flags=IMMUTABLE)
    log.base(12, 10, b"a", b"two", flags=APPEND)
    log.base(13, 10, b"r", b"rest")
    log.attributes(10, ROOT, b"d", directory(flags=IMMUTABLE))
    try:
        ext4.apply()
        assert [flags_of(ext4, name) for name in names] == [IMMUTABLE, IMMUTABLE, APPEND]
        log.write(11, 10, b"i", 0, b"O")
        log.range(Kind.TRUNCATE, 12, 10, b"a", 1)
        log.xattr(11, 10, b"i", b"user.x", b"1")
        log.base(14, 10, b"new", b"new")
        log.link(11, 10, b"i", 10, b"linked")
        log.rename(13, 10, b"r", ROOT, b"r")
        log.unlink(14, 10, b"new")
        log.rename(10, ROOT, b"d", ROOT, b"e")
        ext4.apply()
        names = (b"e", b"e/i", b"e/a")
        assert [flags_of(ext4, name) for name in names] == [IMMUTABLE, IMMUTABLE, APPEND]
        tree = snapshot(ext4.top)
        assert sorted(tree) == [b"", b"e", b"e/a", b"e/i", b"e/linked", b"r"]
        assert (tree[b"e/i"][-1], tree[b"e/a"][-1], tree[b"e/linked"][4]) == (b"One", b"t", b"e/i")
        log.base(11, 10, b"i", b"in place", flags=NODUMP, nlink=2)
        log.unlink(12, 10, b"a")
        log.attributes(10, ROOT, b"e", directory())
        ext4.apply()
        assert (flags_of(ext4, b"e/i"), flags_of(ext4, b"e")) == (NODUMP, 0)
        assert not os.path.exists(ext4.path(b"e/a"))
    finally:
        unlock(ext4, *(name for name in names if os.path.exists(ext4.path(name))))


@pytest.mark.root
def test_what_the_file_system_cannot_hold_is_counted_with_examples(ext4: Place) -> None:
    ext4.log.mkdir(5, ROOT, b"d")
    for number in range(80):  # enough for both workers
        ext4.log.base(10 + number, 5, b"f%d" % number, b"x", xattrs=((b"user.big", b"x" * 60_000),))
    result = ext4.replayer.apply(ext4.log.take())
    assert result.conflicts == []
    assert [problem.code for problem in result.problems] == ["lost-xattr user.*"]
    ext4.log.base(200, ROOT, b"g", b"x", xattrs=((b"user.big", b"x" * 60_000),))
    assert ext4.replayer.apply(ext4.log.take()).problems == []  # said already
    (problem,) = ext4.replayer.problems()
    assert "81 times (e.g. d/f" in problem.detail


def test_without_root_the_weaker_replica_is_said(place: Place) -> None:
    """EPERM from every call that needs a privilege: as an ordinary user, or in a container."""

    def refuse(*args: object, **more: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    log = place.log
    log.base(10, ROOT, b"f", b"content", uid=12345, gid=54321, xattrs=((b"trusted.x", b"1"),))
    log.mknod(11, ROOT, b"null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with mock.patch.multiple(os, chown=refuse, setxattr=refuse, mknod=refuse):
        result = place.replayer.apply(log.take())
    assert result.conflicts == []
    assert {problem.code for problem in result.problems} == {"lost-owner", "lost-xattr trusted.*", "lost-node"}
    assert snapshot(place.top)[b"f"][-1] == b"content"


@pytest.mark.root
def test_as_an_ordinary_user() -> None:
    """In a child process that has given up root: read-only directories and files must not stop it."""
    log = Logbook()
    log.mkdir(10, ROOT, b"d", directory(0o555))
    log.attributes(10, ROOT, b"d", directory(0o555))
    log.base(11, 10, b"f", b"content", mode=stat.S_IFREG | 0o444)
    log.base(12, 10, b"secret", b"content", mode=stat.S_IFREG)
    log.write(11, 10, b"f", 0, b"C")
    log.write(12, 10, b"secret", 0, b"C")
    log.base(11, 10, b"f", b"in place", mode=stat.S_IFREG | 0o444)
    log.rename(12, 10, b"secret", ROOT, b"secret")
    with tempfile.TemporaryDirectory() as work:
        top = bytes(Path(work, "replica"))
        os.mkdir(top)
        for path in (os.fsencode(work), top):
            os.chown(path, 1234, 1234)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setgroups([])
                os.setgid(1234)
                os.setuid(1234)
                replayer = Replayer(os.fsencode(work) + b"/state", [Map(b"/", top)])
                result = replayer.apply(log.records)
                replayer.checkpoint()
                replayer.close()
                status = 0 if not result.conflicts and {p.code for p in result.problems} == {"lost-owner"} else 2
                if status:
                    print(result, flush=True)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        tree = snapshot(top)
    assert (stat.S_IMODE(tree[b"d"][0]), tree[b"d/f"][-1], tree[b"secret"][-1]) == (0o555, b"in place", b"Content")
    assert (stat.S_IMODE(tree[b"d/f"][0]), stat.S_IMODE(tree[b"secret"][0])) == (0o444, 0)
