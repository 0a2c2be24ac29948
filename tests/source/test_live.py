"""Live objects by id on a real tree."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.index.tree import TreeIndex
from livelift.model.entry import object_id
from livelift.model.record import Kind, Make, Record, Rename
from livelift.source.live import Gone, Live, Moved
from livelift.walk.attributes import attributes_at
from tests.source.fakes import directory, file


class Tree:
    """A real tree with an index that is told by hand what the log says."""

    def __init__(self, path: Path, limit: int = 400) -> None:
        self.path = path
        self.device = os.stat(path).st_dev
        self.index = TreeIndex(b":memory:")
        self.live = Live(
            self.index,
            threading.RLock(),
            {self.oid(path): os.fsencode(path)},
            {self.device: 0}.get,
            attributes_at,
            limit,
        )
        self.index.apply([Record(Kind.MKDIR, Make(self.oid(path), 0, b"0", directory()))])

    def oid(self, path: Path) -> int:
        return object_id(0, os.lstat(path).st_ino)

    def mkdir(self, path: str) -> int:
        (self.path / path).mkdir()
        return self.tell(path, Kind.MKDIR)

    def write(self, path: str, data: bytes = b"") -> int:
        (self.path / path).write_bytes(data)
        return self.tell(path, Kind.CREATE)

    def tell(self, path: str, kind: Kind) -> int:
        at = self.path / path
        a = directory() if kind is Kind.MKDIR else file()
        self.index.apply([Record(kind, Make(self.oid(at), self.oid(at.parent), os.fsencode(at.name), a))])
        return self.oid(at)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    path = tmp_path / "root"
    path.mkdir()
    tree = Tree(path, limit=3)
    yield tree
    tree.live.close()
    tree.index.close()


def count() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_directory_by_id_however_deep(tree):
    path = ""
    for _ in range(15):
        path = os.path.join(path, "d" * 200)
        oid = tree.mkdir(path)
    with tree.live.directory(oid) as fd:
        assert tree.live.object_of(os.fstat(fd)) == oid


def test_a_directory_that_moved_is_not_taken_for_the_one_that_has_its_name(tree):
    oid = tree.mkdir("a")
    os.rename(tree.path / "a", tree.path / "b")
    os.mkdir(tree.path / "a")
    with pytest.raises(Moved), tree.live.directory(oid):
        pass
    os.rmdir(tree.path / "a")
    with pytest.raises(Moved), tree.live.directory(oid):
        pass
    root = tree.oid(tree.path)
    tree.index.apply([Record(Kind.RENAME, Rename(oid, root, b"a", root, b"b"))])
    with tree.live.directory(oid):
        pass


def test_an_open_descriptor_stays_right_over_a_rename(tree):
    oid = tree.mkdir("a")
    with tree.live.directory(oid):
        pass
    os.rename(tree.path / "a", tree.path / "b")
    (tree.path / "b" / "f").touch()
    assert tree.live.look(oid, b"f") is not None


def test_what_the_index_does_not_know_or_keeps_in_limbo_is_gone(tree):
    oid = tree.mkdir("a")
    below = tree.mkdir("a/b")
    tree.index.apply([Record(Kind.RENAME, Rename(oid, tree.oid(tree.path), b"a", -1, b"1"))])
    for unknown in (oid, below, 999):
        with pytest.raises(Gone):
            tree.live.acquire(unknown)


def test_looks(tree):
    oid = tree.write("f", b"123")
    root = tree.oid(tree.path)
    seen = tree.live.look(root, b"f")
    assert (seen.oid, seen.attributes.size) == (oid, 3)
    assert tree.live.look(root, b"nothing") is None
    (tree.path / "l").symlink_to("f")
    assert tree.live.look(root, b"l").attributes.target == b"f"
    tree.device = -1
    tree.live._volume_of_device = lambda device: None
    assert tree.live.look(root, b"f") is None, "on a volume that does not take part"


@pytest.mark.parametrize("other", ["file", "directory", "symlink", "fifo", "nothing"])
def test_a_file_is_opened_only_if_it_is_the_one(tree, other):
    oid = tree.write("f", b"123")
    root = tree.oid(tree.path)
    fd = tree.live.open_file(oid, root, b"f")
    assert os.read(fd, 10) == b"123"
    os.close(fd)
    os.rename(tree.path / "f", tree.path / "g")
    at = tree.path / "f"
    makers = {
        "file": at.touch,
        "directory": at.mkdir,
        "symlink": lambda: at.symlink_to("g"),
        "fifo": lambda: os.mkfifo(at),
        "nothing": lambda: None,
    }
    makers[other]()
    before = count()
    with pytest.raises(Moved):
        tree.live.open_file(oid, root, b"f")
    assert count() == before


def test_descriptors_are_bounded_shared_and_all_closed(tree):
    before = count()
    oids = [tree.mkdir(f"d{i}") for i in range(10)]
    held = tree.live.acquire(oids[0])
    assert tree.live.acquire(oids[0]) is held
    for oid in oids[1:]:
        with tree.live.directory(oid):
            pass
    assert count() - before <= 4, "three kept, one in use"
    os.fstat(held.fd)  # pushed out of the cache, but in use
    tree.live.release(held)
    os.fstat(held.fd)
    tree.live.release(held)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(held.fd)
    tree.live.close()
    assert count() == before


def test_a_forgotten_directory_is_not_held(tree):
    oid = tree.mkdir("d")
    before = count()
    with tree.live.directory(oid) as fd:
        tree.live.forget(oid)
        os.fstat(fd)
    assert count() == before
    tree.live.forget(999)


def test_atime_of_what_is_looked_at_stays(tree):
    oid = tree.mkdir("d")
    tree.write("d/f", b"x")
    times = (10**18, 10**18)
    os.utime(tree.path / "d/f", ns=times)
    os.utime(tree.path / "d", ns=times)
    os.close(tree.live.open_file(tree.oid(tree.path / "d/f"), oid, b"f"))
    with tree.live.directory(oid) as fd:
        os.listdir(fd)
    assert os.stat(tree.path / "d").st_atime_ns == times[0]
    assert os.stat(tree.path / "d/f").st_atime_ns == times[0]


def test_paths_for_messages(tree):
    tree.mkdir("d")
    oid = tree.write("d/\udcff")
    assert tree.live.path_of(oid) == os.fsencode(tree.path) + b"/d/\xff"
    assert tree.live.path_of(tree.oid(tree.path)) == os.fsencode(tree.path)
    assert tree.live.path_of(999) is None


def test_a_directory_that_is_expected_is_found_wherever_it_moved(tree):
    oid, other, top = tree.mkdir("a"), tree.mkdir("b"), tree.oid(tree.path)
    tree.live.release(tree.live.acquire(top))
    before = count()
    tree.live.expect(oid, top, b"a")
    os.rename(tree.path / "a", tree.path / "b" / "elsewhere")
    with tree.live.directory(oid) as fd:
        assert tree.live.object_of(os.fstat(fd)) == oid
    tree.live.expect(oid, top, b"b")  # another one has the name
    tree.live.expect(oid, top, b"nothing")
    tree.live.expect(other, top, b"b")
    tree.live.expect(other, top, b"b")
    assert count() - before == 2, "the open one and the expected one"
    tree.live.expect(tree.mkdir("c"), top, b"c")
    assert count() - before == 2, "the newest are held, half of what may be open"
    tree.live.forget(tree.oid(tree.path / "c"))
    assert count() - before == 1
    tree.live.expect(other, top, b"b")
    tree.live.close()
    assert count() == before - 1
