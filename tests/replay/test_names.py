"""Every kind of name record, on a plain directory and on ext4."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from livelift.errors import UsageError, WireError
from livelift.model.entry import limbo
from livelift.model.job import Map
from livelift.model.record import Kind
from livelift.platform.linux import inode_flags
from livelift.platform.linux.files import RENAME_EXCHANGE, RENAME_WHITEOUT
from livelift.replay.replayer import Replayer
from livelift.replay.trouble import ReplicaError
from tests.loopfs import loop_filesystem
from tests.replay.conftest import Place
from tests.replay.logbook import ROOT, Logbook, attributes, directory, snapshot


def make_one_of_each(log: Logbook) -> None:
    log.mkdir(10, ROOT, b"dir", directory(0o2751))
    log.create(11, 10, b"file", attributes(stat.S_IFREG | 0o664, size=7))
    log.base(12, 10, b"base", b"content", mode=stat.S_IFREG | 0o4751, uid=1, gid=2)
    log.symlink(13, 10, b"link", b"/etc/passwd", uid=3, gid=4)
    log.mknod(14, 10, b"fifo", stat.S_IFIFO | 0o620)
    log.mknod(15, 10, b"socket", stat.S_IFSOCK | 0o755)
    log.mknod(16, 10, b"char", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    log.mknod(17, 10, b"block", stat.S_IFBLK | 0o660, os.makedev(7, 200))


@pytest.mark.root
def test_one_of_each(ext4: Place) -> None:
    make_one_of_each(ext4.log)
    ext4.log.attributes(10, ROOT, b"dir", directory(0o2751, mtime=-9_999_999_999, atime=5))
    ext4.apply()
    tree = snapshot(ext4.top, times=True)
    modes = {path: stat.filemode(entry[0]) for path, entry in tree.items() if path}
    assert modes == {
        b"dir": "drwxr-s--x",
        b"dir/file": "-rw-rw-r--",
        b"dir/base": "-rwsr-x--x",
        b"dir/link": "lrwxrwxrwx",
        b"dir/fifo": "prw--w----",
        b"dir/socket": "srwxr-xr-x",
        b"dir/char": "crw-rw-rw-",
        b"dir/block": "brw-rw----",
    }
    assert tree[b"dir/base"][1:3] == (1, 2)
    assert tree[b"dir/link"][1:3] == (3, 4)
    assert tree[b"dir/char"][3] == os.makedev(1, 3)
    assert tree[b"dir/file"][6] == bytes(7)
    assert {entry[-1] for path, entry in tree.items() if path not in (b"", b"dir")} == {1_000_000_123_456_789}
    assert os.stat(ext4.path(b"dir")).st_mtime_ns == -9_999_999_999
    ext4.crash()
    assert ext4.replayer.apply(ext4.log.records).conflicts == []
    assert snapshot(ext4.top, times=True) == tree


def test_what_is_in_the_way_is_replaced(place: Place) -> None:
    os.symlink(b"/etc/passwd", place.path(b"file"))
    Path(os.fsdecode(place.path(b"dir"))).write_text("a file")
    Path(os.fsdecode(place.path(b"link"))).write_text("another")
    place.log.base(11, ROOT, b"file", b"new")
    place.log.mkdir(12, ROOT, b"dir")
    place.log.symlink(13, ROOT, b"link", b"x")
    place.apply()
    tree = snapshot(place.top)
    assert tree[b"file"][-1] == b"new"
    assert stat.S_ISDIR(tree[b"dir"][0])
    assert tree[b"link"][-1] == b"x"


def test_a_directory_in_the_way_is_a_conflict(place: Place) -> None:
    os.mkdir(place.path(b"file"))
    place.log.base(11, ROOT, b"file", b"new")
    place.log.base(12, ROOT, b"other", b"fine")
    result = place.replayer.apply(place.log.take())
    assert [(c.oid, c.parent, c.name, c.lsn, c.kind) for c in result.conflicts] == [
        (11, ROOT, b"file", 2, Kind.BASE_FILE)
    ]
    assert result.applied_lsn == 3
    assert snapshot(place.top)[b"other"][-1] == b"fine"


def test_a_file_with_too_many_names_is_not_written_to(place: Place) -> None:
    kept = Path(os.fsdecode(place.path(b"kept")))
    kept.write_bytes(b"kept")
    os.link(kept, place.path(b"file"))
    place.log.base(11, ROOT, b"file", b"new")
    place.apply()
    assert kept.read_bytes() == b"kept"
    assert snapshot(place.top)[b"file"][-1] == b"new"


def test_renames(place: Place) -> None:
    log = place.log
    for oid, name in enumerate([b"a", b"b", b"c"], 10):
        log.base(oid, ROOT, name, name)
    log.mkdir(20, ROOT, b"d")
    log.mkdir(21, ROOT, b"e")
    log.mkdir(22, 20, b"below")
    log.base(23, 22, b"deep", b"deep")
    log.rename(10, ROOT, b"a", ROOT, b"b", victim=11)
    log.rename(20, ROOT, b"d", ROOT, b"e", victim=21)
    log.write(23, 22, b"deep", 4, b"er")
    log.rename(12, ROOT, b"c", 20, b"c")
    log.rename(20, ROOT, b"e", ROOT, b"b", RENAME_EXCHANGE, 10)
    log.base(24, 22, b"new", b"")
    place.apply()
    tree = snapshot(place.top)
    assert sorted(tree) == [b"", b"b", b"b/below", b"b/below/deep", b"b/below/new", b"b/c", b"e"]
    assert tree[b"e"][-1] == b"a"
    assert tree[b"b/below/deep"][-1] == b"deeper"


@pytest.mark.root
def test_whiteout(ext4: Place) -> None:
    ext4.log.base(10, ROOT, b"a", b"a")
    ext4.log.rename(10, ROOT, b"a", ROOT, b"b", RENAME_WHITEOUT)
    ext4.apply()
    tree = snapshot(ext4.top)
    assert (stat.S_IFMT(tree[b"a"][0]), tree[b"a"][3]) == (stat.S_IFCHR, 0)
    assert tree[b"b"][-1] == b"a"


def test_rename_of_what_is_not_there_is_a_conflict_that_survives_a_crash(place: Place) -> None:
    place.log.rename(10, ROOT, b"a", ROOT, b"b")
    place.log.rmdir(11, ROOT, b"never")
    records = place.log.take()
    found = place.replayer.apply(records).conflicts
    assert [conflict.oid for conflict in found] == [10]
    place.crash()
    assert place.replayer.apply(records).conflicts == found
    place.replayer.checkpoint()
    place.crash()
    assert place.replayer.apply(records).conflicts == []


def test_rmdir_of_a_full_directory_and_records_below_a_lost_one_are_conflicts(place: Place) -> None:
    log = place.log
    log.mkdir(10, ROOT, b"d")
    log.mkdir(12, 10, b"e")
    place.apply()
    place.replayer.checkpoint()
    Path(os.fsdecode(place.path(b"d/surprise"))).touch()
    log.rmdir(10, ROOT, b"d")
    log.base(11, 99, b"f", b"lost")
    result = place.replayer.apply(log.take())
    assert [(c.oid, c.kind) for c in result.conflicts] == [(10, Kind.RMDIR), (99, Kind.BASE_FILE)]
    place.crash()
    os.rename(place.path(b"d/e"), place.path(b"stolen"))
    log.base(13, 12, b"f", b"lost too")
    result = place.replayer.apply(log.records[-1:])
    assert [conflict.oid for conflict in result.conflicts if conflict.lsn == len(log.records)] == [12]


def test_limbo_and_finish(place: Place) -> None:
    log = place.log
    log.base(10, ROOT, b"a", b"a")
    log.rename(10, ROOT, b"a", limbo(0), b"10")
    place.apply()
    assert snapshot(place.top).keys() == {b""}
    with pytest.raises(ReplicaError, match="limbo"):
        place.replayer.finish()
    log.rename(10, limbo(0), b"10", ROOT, b"back")
    log.attributes(ROOT, 0, b"0", directory(0o711, mtime=42))
    place.apply()
    place.replayer.finish()
    assert os.listdir(place.top) == [b"back"]
    status = os.stat(place.top)
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o711, 42)


def test_what_is_told_of_an_object_in_limbo_goes_there(place: Place) -> None:
    """In one batch, behind records in another directory and the move itself."""
    log = place.log
    log.mkdir(20, ROOT, b"d")
    for oid in (10, 11):
        log.base(oid, 20, b"f%d" % oid, b"old")
        log.write(oid, 20, b"f%d" % oid, 0, b"o")
        log.rename(oid, 20, b"f%d" % oid, limbo(0), b"%x" % oid)
    log.write(10, limbo(0), b"a", 0, b"n")
    log.xattr(10, limbo(0), b"a", b"user.k", b"v")
    log.link(10, limbo(0), b"a", ROOT, b"z")
    log.base(11, limbo(0), b"b", b"new")
    place.apply()
    log.rename(10, limbo(0), b"a", ROOT, b"x")
    log.rename(11, limbo(0), b"b", ROOT, b"y")
    place.apply()
    tree = snapshot(place.top)
    assert sorted(tree) == [b"", b"d", b"x", b"y", b"z"]
    assert tree[b"x"][-2:] == ({"user.k": b"v"}, b"nld")
    assert tree[b"y"][-1] == b"new"


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/etc", b"a\0b"])
def test_names_that_lead_out_are_refused(place: Place, name: bytes) -> None:
    log = place.log
    log.base(10, ROOT, b"a", b"a")
    place.apply()
    bad = [
        lambda: log.base(11, ROOT, name, b"x"),
        lambda: log.mkdir(11, ROOT, name),
        lambda: log.rename(10, ROOT, b"a", ROOT, name),
        lambda: log.rename(10, ROOT, name, ROOT, b"b"),
        lambda: log.link(10, ROOT, name, ROOT, b"b"),
        lambda: log.reflink(10, ROOT, b"a", (11, ROOT, name), 4096),
        lambda: log.unlink(10, ROOT, name),
    ]
    before = snapshot(place.top)
    for one in bad:
        one()
        with pytest.raises(WireError):
            place.replayer.apply(log.take())
    assert snapshot(place.top) == before


def test_ids_that_lead_out_are_refused(place: Place) -> None:
    log = place.log
    log.mkdir(10, ROOT, b"d")
    place.apply()
    for oid, parent, name in [(11, 0, b"7"), (11, 0, b"x"), (-5, ROOT, b"x"), (ROOT, 10, b"x"), (12, -9, b"x")]:
        log.mkdir(oid, parent, name)
        with pytest.raises(WireError):
            place.replayer.apply(log.take())


def test_symlinks_in_the_replica_lead_nowhere(place: Place, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("untouched")
    before = snapshot(bytes(outside))
    log = place.log
    log.mkdir(10, ROOT, b"d")
    log.mkdir(11, ROOT, b"e")
    place.apply()
    os.rmdir(place.path(b"d"))
    os.symlink(bytes(outside), place.path(b"d"))  # a directory that the map knows has become a way out
    place.replayer.checkpoint()
    place.crash()
    log.symlink(12, 11, b"link", bytes(outside / "file"))
    log.symlink(13, 11, b"up", b"../../outside")
    log.base(20, 10, b"file", b"evil")
    log.write(12, 11, b"link", 0, b"evil")
    log.range(Kind.TRUNCATE, 12, 11, b"link", 0)
    log.attributes(12, 11, b"link", attributes(stat.S_IFREG | 0o777))
    log.xattr(12, 11, b"link", b"user.x", b"1")
    log.mkdir(13, 11, b"up2")
    log.rename(30, 10, b"file", 11, b"stolen")
    log.unlink(30, 10, b"file")
    log.base(14, 13, b"file", b"in up2")
    result = place.replayer.apply(log.take())
    assert {conflict.oid for conflict in result.conflicts} == {10, 12}
    assert snapshot(bytes(outside)) == before
    assert snapshot(place.top)[b"e/up2/file"][-1] == b"in up2"


def test_odd_names_and_deep_paths(place: Place) -> None:
    log = place.log
    parent = ROOT
    for depth in range(60):  # 60 times 255 bytes: far beyond PATH_MAX
        log.mkdir(100 + depth, parent, b"\xff" * 254 + b"%d" % (depth % 10))
        parent = 100 + depth
    log.base(10, parent, b"\xfe\n\x01 ", b"deep")
    log.attributes(parent, 158, b"\xff" * 254 + b"9", directory(0o700))
    place.apply()
    place.replayer.checkpoint()
    place.crash()
    log.write(10, parent, b"\xfe\n\x01 ", 4, b"er")
    place.apply()
    fd = os.open(place.top, os.O_RDONLY)
    for depth in range(60):
        below = os.open(b"\xff" * 254 + b"%d" % (depth % 10), os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    file = os.open(b"\xfe\n\x01 ", os.O_RDONLY, dir_fd=fd)
    assert os.read(file, 99) == b"deeper"
    os.close(file)
    os.close(fd)


def test_a_name_of_256_bytes_is_said_openly(place: Place) -> None:
    place.log.base(10, ROOT, b"x" * 256, b"x")
    result = place.replayer.apply(place.log.take())
    assert len(result.conflicts) == 1 and "too long" in result.conflicts[0].detail


def test_our_own_name_is_not_the_sources(place: Place) -> None:
    place.log.mkdir(10, ROOT, b".livelift")
    place.log.base(11, ROOT, b"a", b"a")
    place.log.rename(11, ROOT, b"a", ROOT, b".livelift")
    place.log.unlink(12, ROOT, b".livelift")
    result = place.replayer.apply(place.log.take())
    assert [problem.code for problem in result.problems] == ["reserved-name"]
    assert "3 times" in place.replayer.problems()[0].detail
    assert os.path.isdir(place.path(b".livelift/limbo"))


@pytest.mark.root
def test_two_file_systems(tmp_path: Path, ext4_mount: Path) -> None:
    with loop_filesystem("ext4", 16) as other:
        (ext4_mount / "one").mkdir()
        place = Place(tmp_path / "state", ext4_mount / "one", other)
        log = place.log
        log.base(10, ROOT, b"a", b"a")
        log.mkdir(20, ROOT + 1, b"d")
        log.link(10, ROOT, b"a", 20, b"linked")
        log.rename(10, ROOT, b"a", 20, b"moved")
        result = place.replayer.apply(log.take())
        assert [conflict.detail for conflict in result.conflicts] == ["cannot rename across file systems"]
        assert (other / "d" / "linked").read_bytes() == b"a", "two names, two objects"
        log.base(10, 20, b"moved", b"read again")
        place.apply()
        place.replayer.checkpoint()
        assert snapshot(place.maps[0].target).keys() == {b""}
        assert (other / "d" / "moved").read_bytes() == b"read again"
        place.replayer.close()


@pytest.mark.root
def test_a_hard_link_to_another_file_system_is_a_copy_with_all_its_attributes(tmp_path: Path, ext4_mount: Path) -> None:
    with loop_filesystem("ext4", 16) as other:
        (ext4_mount / "links").mkdir()
        place = Place(tmp_path / "state", ext4_mount / "links", other)
        log = place.log
        log.base(10, ROOT, b"a", b"first")
        place.apply()
        first, second = ext4_mount / "links/a", other / "a"
        with first.open("r+b") as file:
            file.truncate(1 << 20)
            file.seek(1 << 19)
            file.write(b"behind a hole")
        os.chown(first, 7, 8)
        os.chmod(first, 0o4750)
        os.setxattr(first, "user.mark", b"1")
        os.utime(first, ns=(10**18, 10**18 + 5))
        log.link(10, ROOT, b"a", ROOT + 1, b"a")
        place.apply()
        here, there = os.stat(second), os.stat(first)
        for field in ("st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns"):
            assert getattr(here, field) == getattr(there, field)
        assert second.read_bytes() == first.read_bytes() and os.getxattr(second, "user.mark") == b"1"
        assert here.st_blocks < 64, "the hole is one here too"
        first.write_bytes(b"second")
        fd = os.open(second, os.O_RDONLY)
        inode_flags.set_flags(fd, inode_flags.get_flags(fd) | inode_flags.IMMUTABLE)
        os.close(fd)
        log.link(10, ROOT, b"a", ROOT + 1, b"a")  # said again, because the copy has fallen behind
        place.apply()
        assert second.read_bytes() == b"second"
        place.replayer.close()


def test_a_target_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        Replayer(bytes(tmp_path / "state"), [Map(b"/", bytes(tmp_path / "nowhere"))])
