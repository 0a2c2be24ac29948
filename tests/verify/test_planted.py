"""Planted differences on real file systems: every field, one at a time, in both directions; all of them and nothing
else."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from livelift.platform.linux import inode_flags
from livelift.verify import cache
from tests.loopfs import loop_filesystem
from tests.verify.helpers import ask, differences, fields, verifier

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

WHEN = 1_600_000_000_123_456_789
RAW = b"not utf-8 \xff\xfe\n"


def build(root: Path) -> None:
    """A tree with one of everything. Times are set last, deepest first, so two builds are equal."""
    (root / "sub" / "deeper").mkdir(parents=True)
    (root / "plain").write_bytes(b"content of a plain file")
    (root / "empty").write_bytes(b"")
    (root / "big").write_bytes(b"0123456789abcdef" * 200_000)
    (root / "linked").write_bytes(b"two names")
    os.link(root / "linked", root / "sub" / "linked too")
    (root / "pair").write_bytes(b"same text")
    (root / "sub" / "twin").write_bytes(b"same text")
    os.symlink("plain", root / "link")
    os.mkfifo(root / "fifo")
    os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(root / "socket"))
    with open(os.fsencode(root) + b"/" + RAW, "wb") as file:
        file.write(b"odd name")
    with (root / "sparse").open("wb") as file:
        file.truncate(40 << 20)
        os.pwrite(file.fileno(), b"island" * 1000, 20 << 20)
    os.chown(root / "plain", 1000, 1001)  # before the capability, which a chown drops
    os.setxattr(root / "plain", "user.note", b"value")
    os.setxattr(root / "plain", "user.long", b"v" * 200)
    os.setxattr(root / "plain", "trusted.note", b"t")
    os.setxattr(root / "plain", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    settle(root)


def settle(root: Path) -> None:
    for directory, _, names in os.walk(os.fsencode(root), topdown=False):
        for name in names:
            os.utime(os.path.join(directory, name), ns=(WHEN, WHEN), follow_symlinks=False)
        os.utime(directory, ns=(WHEN, WHEN))


@pytest.fixture(scope="module")
def trees() -> Iterator[tuple[Path, Path]]:
    with loop_filesystem("ext4", 256) as mountpoint:
        yield mountpoint / "a", mountpoint / "b"


@pytest.fixture
def pair(trees: tuple[Path, Path]) -> Iterator[tuple[Path, Path]]:
    for root in trees:
        build(root)
    yield trees
    for root in trees:
        subprocess.run(["chattr", "-R", "-i", "-a", str(root)], capture_output=True)
        subprocess.run(["rm", "-rf", str(root)], check=True)


def with_fd(action: Callable[[int], None], name: str = "plain") -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        fd = os.open(root / name, os.O_RDONLY)
        try:
            action(fd)
        finally:
            os.close(fd)

    return plant


def overwrite(root: Path, name: str, offset: int, data: bytes) -> None:
    with (root / name).open("r+b") as file:
        file.seek(offset)
        file.write(data)


def replace(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        (root / name).unlink()
        make(root / name)

    return plant


def relink(root: Path) -> None:
    (root / "sub" / "linked too").unlink()
    (root / "sub" / "linked too").write_bytes(b"two names")


def link_pair(root: Path) -> None:
    (root / "sub" / "twin").unlink()
    os.link(root / "pair", root / "sub" / "twin")


def fill_hole(root: Path) -> None:
    overwrite(root, "sparse", 0, bytes(8192))


def in_hole(root: Path) -> None:
    overwrite(root, "sparse", 35 << 20, b"!")


ACL = bytes.fromhex("0200000001000600ffffffff02000400e803000004000400ffffffff10000600ffffffff20000400ffffffff")

PLANTS: dict[str, tuple[Callable[[Path], object], set[tuple[bytes, str]]]] = {
    "mode": (lambda r: os.chmod(r / "plain", 0o4755), {(b"plain", "mode")}),
    "uid": (lambda r: os.chown(r / "sub" / "twin", 7, -1), {(b"sub/twin", "uid")}),
    "gid": (lambda r: os.chown(r / "link", -1, 7, follow_symlinks=False), {(b"link", "gid")}),
    "uid of the root": (lambda r: os.chown(r, 7, -1), {(b"", "uid")}),
    "mtime by one ns": (lambda r: os.utime(r / "empty", ns=(WHEN, WHEN + 1)), {(b"empty", "mtime")}),
    "mtime of a directory": (lambda r: os.utime(r / "sub", ns=(WHEN, WHEN - 1)), {(b"sub", "mtime")}),
    "mtime of a symlink": (
        lambda r: os.utime(r / "link", ns=(WHEN, 5), follow_symlinks=False),
        {(b"link", "mtime")},
    ),
    "mtime of a fifo": (lambda r: os.utime(r / "fifo", ns=(WHEN, -5)), {(b"fifo", "mtime")}),
    "content, same size and mtime": (lambda r: overwrite(r, "pair", 3, b"X"), {(b"pair", "content")}),
    "last byte of a big file": (lambda r: overwrite(r, "big", 3_199_999, b"X"), {(b"big", "content")}),
    "a byte in a hole": (in_hole, {(b"sparse", "content")}),
    "a hole filled with zeros": (fill_hole, {(b"sparse", "layout")}),
    "size": (lambda r: os.truncate(r / "big", 3_200_001), {(b"big", "size")}),
    "symlink": (replace("link", lambda p: os.symlink("other", p)), {(b"link", "link target")}),
    "device": (
        replace("device", lambda p: os.mknod(p, stat.S_IFCHR | 0o600, os.makedev(1, 5))),
        {(b"device", "device")},
    ),
    "type": (replace("fifo", lambda p: p.write_bytes(b"")), {(b"fifo", "type")}),
    "file became directory": (replace("empty", lambda p: p.mkdir()), {(b"empty", "type")}),
    "xattr value": (lambda r: os.setxattr(r / "plain", "user.note", b"other"), {(b"plain", "xattr user.note")}),
    "long xattr": (
        lambda r: os.setxattr(r / "plain", "user.long", b"v" * 199 + b"w"),
        {(b"plain", "xattr user.long")},
    ),
    "xattr gone": (lambda r: os.removexattr(r / "plain", "trusted.note"), {(b"plain", "xattr trusted.note")}),
    "capability": (
        lambda r: os.removexattr(r / "plain", "security.capability"),
        {(b"plain", "xattr security.capability")},
    ),
    "xattr of a symlink": (
        lambda r: os.setxattr(r / "link", "trusted.l", b"1", follow_symlinks=False),
        {(b"link", "xattr trusted.l")},
    ),
    "acl": (
        lambda r: os.setxattr(r / "pair", "system.posix_acl_access", ACL),
        {(b"pair", "xattr system.posix_acl_access"), (b"pair", "mode")},
    ),
    "immutable": (with_fd(lambda fd: inode_flags.set_flags(fd, inode_flags.IMMUTABLE)), {(b"plain", "flags")}),
    "append only": (with_fd(lambda fd: inode_flags.set_flags(fd, inode_flags.APPEND), "big"), {(b"big", "flags")}),
    "no dump": (with_fd(lambda fd: inode_flags.set_flags(fd, inode_flags.NODUMP), "sub"), {(b"sub", "flags")}),
    "links cut": (relink, {(b"sub/linked too", "hard link")}),
    "links made": (link_pair, {(b"sub/twin", "hard link")}),
    "missing file": (lambda r: (r / "plain").unlink(), {(b"plain", "missing on target")}),
    "missing name that is not UTF-8": (
        lambda r: os.unlink(os.fsencode(r) + b"/" + RAW),
        {(RAW, "missing on target")},
    ),
    "missing tree": (
        lambda r: subprocess.run(["rm", "-r", str(r / "sub")], check=True),
        {(b"sub", "missing on target")},
    ),
    "first link missing": (lambda r: (r / "linked").unlink(), {(b"linked", "missing on target")}),
    "socket": (lambda r: (r / "socket").unlink(), {(b"socket", "missing on target")}),
}

MIRRORED = {"missing on target": "extra on target"}


def test_equal_trees_have_no_difference(pair: tuple[Path, Path]) -> None:
    assert differences(*pair) == []


@pytest.mark.parametrize("what", PLANTS)
def test_a_planted_difference_is_found_and_nothing_else(pair: tuple[Path, Path], what: str) -> None:
    plant, expected = PLANTS[what]
    before = os.stat(pair[1])
    plant(pair[1])
    if what not in ("mtime of a directory",):
        restore_times(pair[1], what)
    assert os.stat(pair[1]).st_mtime_ns == before.st_mtime_ns
    assert fields(differences(*pair)) == expected
    other = {(path, MIRRORED.get(field, field)) for path, field in expected}
    assert fields(differences(pair[1], pair[0])) == other


@pytest.mark.parametrize("what", PLANTS)
def test_with_a_warm_cache_as_well(pair: tuple[Path, Path], what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attributes and content come from the cache while the stamp stands: so every planting must move ctime."""
    monkeypatch.setattr(cache, "RACY", 0)
    time.sleep(0.02)  # the tick of ctime
    plant, expected = PLANTS[what]
    with verifier(pair[0]) as one, verifier(pair[1]) as other:
        assert one.step(60).round_done and other.step(60).round_done
        assert ask(one, other)[0] == []
        assert one.counts.files == other.counts.files == 0
        plant(pair[1])
        if what != "mtime of a directory":
            restore_times(pair[1], what)
        found, outcome = ask(one, other)
        assert fields(found) == expected
        assert one.counts.bytes_hashed == 0 and outcome.target.files_cached < outcome.target.objects


def restore_times(root: Path, what: str) -> None:
    """Put back the mtimes that the planting moved, so that the planted field is the only one."""
    if what in ("immutable", "append only") or what.startswith("mtime"):
        os.utime(root, ns=(WHEN, WHEN))
        return
    settle(root)


def test_project_id() -> None:
    """On XFS: this test's kernel may lack the quota support without which ext4 has no projects."""
    with loop_filesystem("xfs") as mountpoint:
        for name in "ab":
            build(mountpoint / name)
        assert differences(mountpoint / "a", mountpoint / "b") == []
        with_fd(lambda fd: inode_flags.set_project(fd, 42))(mountpoint / "b")
        assert fields(differences(mountpoint / "a", mountpoint / "b")) == {(b"plain", "project")}


@pytest.mark.parametrize("fstype", ["xfs", "btrfs"])
def test_another_file_system_makes_no_failing_difference(pair: tuple[Path, Path], fstype: str) -> None:
    """A replica may live on another type of file system; where the holes lie may differ then, nothing else."""
    with loop_filesystem(fstype) as mountpoint:
        build(mountpoint / "b")
        found = differences(pair[0], mountpoint / "b")
        assert [difference for difference in found if difference.fails] == []
        assert fields(found) <= {(b"sparse", "layout")}
        os.chmod(mountpoint / "b" / "plain", 0o600)
        assert (b"plain", "mode") in fields(differences(pair[0], mountpoint / "b"))


def test_content_that_changed_behind_equal_size_and_mtime_is_found_with_a_warm_cache(pair: tuple[Path, Path]) -> None:
    """The reason why the stamp holds ctime: size and mtime were put back, ctime cannot be."""
    time.sleep(2.1)  # older than the racy window, so that the digests are kept
    with verifier(pair[0]) as one, verifier(pair[1]) as other:
        assert ask(one, other)[0] == []
        found, _ = ask(one, other)
        assert found == [] and one.counts.files == 0 and other.counts.files_cached == one.counts.files_cached > 5
        overwrite(pair[1], "big", 17, b"?")
        os.utime(pair[1] / "big", ns=(WHEN, WHEN))
        found, outcome = ask(one, other)
        assert fields(found) == {(b"big", "content")}
        assert outcome.target.files == 1 and outcome.source_tree != outcome.target_tree


def test_reading_moves_no_atime(pair: tuple[Path, Path]) -> None:
    for path in (pair[0] / "plain", pair[0] / "big", pair[0]):
        os.utime(path, ns=(1, os.stat(path).st_mtime_ns))
    differences(*pair)
    assert [os.stat(path).st_atime_ns for path in (pair[0] / "plain", pair[0] / "big", pair[0])] == [1, 1, 1]
