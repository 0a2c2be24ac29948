"""The map of directories: durable from commit to commit, confined, bounded."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.errors import CorruptError, WireError
from livelift.replay.directories import Directories, check_name
from livelift.replay.trouble import Disagreement

ROOT = 1000


@pytest.fixture
def top(tmp_path: Path) -> Iterator[int]:
    for path in ("replica/a/b/c", "replica/x", "replica/.livelift/limbo", "outside"):
        (tmp_path / path).mkdir(parents=True)
    fd = os.open(tmp_path / "replica", os.O_RDONLY)
    yield fd
    os.close(fd)


def make(tmp_path: Path, top: int, limit: int = 512) -> Directories:
    return Directories(bytes(tmp_path / "map"), [top], limit)


def fill(made: Directories) -> None:
    made.bind(0, ROOT)
    made.put(1, ROOT, b"a")
    made.put(2, 1, b"b")
    made.put(3, 2, b"c")
    made.put(4, ROOT, b"x")


def inode(directory_fd: int) -> int:
    return os.fstat(directory_fd).st_ino


def test_open_by_id_and_name_a_path(tmp_path: Path, top: int) -> None:
    made = make(tmp_path, top)
    fill(made)
    assert inode(made.open(3).fd) == (tmp_path / "replica/a/b/c").stat().st_ino
    assert made.path(3) == b"a/b/c"
    assert (made.path(ROOT), made.path(77)) == (b"", b"?4d")
    assert made.map_of(3) == made.map_of(-1) == 0
    assert inode(made.open(-1).fd) == (tmp_path / "replica/.livelift/limbo").stat().st_ino
    made.put(2, 4, b"moved")  # an open directory keeps its descriptor through a rename
    assert inode(made.open(3).fd) == (tmp_path / "replica/a/b/c").stat().st_ino
    assert made.path(3) == b"x/moved/c"
    made.close()


def test_what_was_not_committed_is_forgotten(tmp_path: Path, top: int) -> None:
    made = make(tmp_path, top)
    fill(made)
    made.set("lsn", 5)
    made.commit()
    made.put(9, 1, b"new")
    made.remove(3)
    made.set("lsn", 6)
    made.close()
    made = make(tmp_path, top)
    assert (made.has(9), made.has(3), made.get("lsn"), made.roots) == (False, True, 5, {ROOT: 0})
    made.remove(3)
    made.rollback()
    assert made.has(3)
    made.close()


def test_a_root_that_gets_another_id(tmp_path: Path, top: int) -> None:
    made = make(tmp_path, top)
    fill(made)
    made.bind(0, 2000)
    assert made.roots == {2000: 0}
    with pytest.raises(WireError):
        made.put(2000, 1, b"down")
    with pytest.raises(WireError):
        made.bind(1, 5)
    made.close()


def test_never_more_open_than_allowed_but_for_those_in_use(tmp_path: Path, top: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    made = make(tmp_path, top, limit=2)
    fill(made)
    base = len(os.listdir("/proc/self/fd"))
    first = made.open(3).fd
    kept = [made.open(oid).fd for oid in (1, 2, 4, ROOT)]
    assert inode(first) == (tmp_path / "replica/a/b/c").stat().st_ino  # in use: still open
    assert len({first, *kept}) == 5 and made.full
    made.next_group()
    assert len(os.listdir("/proc/self/fd")) == base + 2
    assert inode(made.open(3).fd) == (tmp_path / "replica/a/b/c").stat().st_ino
    made.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("swap", ["symlink", "file", "nothing"])
def test_a_way_out_is_not_taken(tmp_path: Path, top: int, swap: str) -> None:
    made = make(tmp_path, top)
    fill(made)
    (tmp_path / "replica/a").rename(tmp_path / "replica/gone")
    if swap == "symlink":
        (tmp_path / "replica/a").symlink_to(tmp_path / "outside")
    elif swap == "file":
        (tmp_path / "replica/a").touch()
    with pytest.raises(Disagreement) as caught:
        made.open(3)
    assert caught.value.oid == 1
    with pytest.raises(Disagreement):
        made.open(12345)
    made.close()


def test_a_cycle_is_an_attack(tmp_path: Path, top: int) -> None:
    made = make(tmp_path, top)
    fill(made)
    made.put(1, 3, b"loop")
    for look in (made.open, made.map_of):
        with pytest.raises(WireError, match="in itself"):
            look(3)
    made.close()


def test_what_children_inherit_is_known(tmp_path: Path, top: int) -> None:
    made = make(tmp_path, top)
    fill(made)
    assert made.open(1).plain
    os.chmod(tmp_path / "replica/a", stat.S_ISGID | 0o755)
    made.open(1).look()
    assert not made.open(1).plain
    made.close()


def test_damage_is_told(tmp_path: Path, top: int) -> None:
    (tmp_path / "map").write_bytes(b"no database at all" * 100)
    with pytest.raises(CorruptError, match="directory map"):
        make(tmp_path, top)


@pytest.mark.parametrize("name", [b"", b".", b"..", b"/", b"a/b", b"a\0"])
def test_names_that_are_refused(name: bytes) -> None:
    with pytest.raises(WireError):
        check_name(name)


@pytest.mark.parametrize("name", [b"...", b"a", b"\xff\n", b" ", b"-", b"~"])
def test_names_that_are_odd_but_fine(name: bytes) -> None:
    assert check_name(name) == name
