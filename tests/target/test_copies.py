"""Copies of a replica: everything that belongs to it and nothing else, by reflink where that is possible."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from livelift.errors import StateError, UsageError
from livelift.model.job import Map
from livelift.target.copies import LABEL, Copies
from tests.loopfs import loop_filesystem
from tests.oracle.compare import assert_equal

pytestmark = pytest.mark.root


def replica(path: Path) -> Path:
    tree = path / "replica"
    (tree / "dir/below").mkdir(parents=True)
    (tree / ".livelift/limbo").mkdir(parents=True)
    (tree / ".livelift/limbo/lost").write_bytes(b"x")
    (tree / "file").write_bytes(os.urandom(300_000))
    (tree / "empty").touch()
    os.link(tree / "file", tree / "dir/link")
    os.symlink("file", tree / "symlink")
    os.mkfifo(tree / "dir/fifo")
    with open(tree / "dir/below/sparse", "wb") as file:
        file.truncate(50 << 20)
        file.seek(20 << 20)
        file.write(b"middle" * 1000)
    os.setxattr(tree / "file", "user.key", b"value")
    os.chown(tree / "file", 1, 2)
    os.chmod(tree / "dir", 0o2750)
    os.utime(tree / "dir", ns=(5, 7))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tree / "socket"))
    return tree


def made(copies: Copies, to: Path, number: str = "1") -> dict:
    copies.begin({"id": number, "to": str(to)})
    copies.reached(LABEL + number)
    result = copies.take({"id": number})
    copies.keep({"id": number})
    return result


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "btrfs"])
def test_the_copy_is_the_replica(fstype: str) -> None:
    with loop_filesystem(fstype, 400) as path:
        tree = replica(path)
        os.sync()
        used = os.statvfs(path).f_bfree
        copies = Copies((Map(b"/srv/data", os.fsencode(tree)),))
        result = made(copies, path / "copy")
        os.sync()
        copy = path / "copy/srv/data"
        assert not (copy / ".livelift").exists()
        os.rename(tree / ".livelift", path / "aside")
        os.utime(tree, ns=(1, 1))
        os.utime(copy, ns=(1, 1))
        assert_equal(tree, copy)
        assert (copy / "file").stat().st_nlink == 2 and (copy / "socket").is_socket()
        assert os.listdir(path / "copy") == ["srv"] and not list(path.glob("*.partial-*"))
        if fstype == "ext4":
            assert (result["reflinked"], result["copied"]) == (0, 3) and result["bytes_copied"] < 1 << 20
            assert os.stat(copy / "dir/below/sparse").st_blocks * 512 < 1 << 20
        else:
            assert (result["reflinked"], result["copied"], result["bytes_copied"]) == (3, 0, 0)
            assert (used - os.statvfs(path).f_bfree) * os.statvfs(path).f_frsize < 200_000, "it takes room"


def test_the_trees_lie_as_on_the_source(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    maps = [(b"/", b"one"), (b"/srv", b"two"), (b"/var/lib/x", b"three")]
    copies = Copies(tuple(Map(source, os.fsencode(tmp_path) + b"/" + target) for source, target in maps))
    made(copies, tmp_path / "copy")
    found = sorted(str(p.relative_to(tmp_path / "copy")) for p in (tmp_path / "copy").rglob("*") if p.is_file())
    assert found == ["one", "srv/two", "var/lib/x/three"]


def test_it_waits_for_its_mark_and_for_no_other(tmp_path: Path) -> None:
    (tmp_path / "replica").mkdir()
    copies = Copies((Map(b"/x", os.fsencode(tmp_path / "replica")),))
    copies.begin({"id": "7", "to": str(tmp_path / "copy")})
    for label in ("copy:8", "cutover", "7", ""):
        copies.reached(label)
    results: list[dict] = []
    waiter = threading.Thread(target=lambda: results.append(copies.take({"id": "7"})))
    waiter.start()
    waiter.join(0.3)
    assert waiter.is_alive() and not (tmp_path / "copy").exists()
    copies.reached("copy:7")
    waiter.join(5)
    assert results and not (tmp_path / "copy").exists(), "it has its name when the source is sure"
    copies.keep({"id": "7"})
    assert (tmp_path / "copy/x").is_dir()


def test_a_copy_that_is_not_wanted_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "replica").mkdir()
    copies = Copies((Map(b"/x", os.fsencode(tmp_path / "replica")),))
    for number, drop in (("1", True), ("2", False)):
        copies.begin({"id": number, "to": str(tmp_path / "copy")})
        copies.reached(LABEL + number)
        if drop:
            copies.drop({"id": number})
            with pytest.raises(StateError):
                copies.take({"id": number})
    copies.begin({"id": "3", "to": str(tmp_path / "other")})  # nobody took the one before
    assert sorted(os.listdir(tmp_path)) == ["replica"]


def test_a_disk_without_room_is_told_and_left_as_it_was() -> None:
    with loop_filesystem("ext4", 16) as path:
        tree = path / "replica"
        tree.mkdir()
        (tree / "big").write_bytes(os.urandom(9 << 20))
        copies = Copies((Map(b"/x", os.fsencode(tree)),))
        copies.begin({"id": "1", "to": str(path / "copy")})
        copies.reached("copy:1")
        with pytest.raises(StateError, match="No space left"):
            copies.take({"id": "1"})
        assert sorted(os.listdir(path)) == ["lost+found", "replica"]


@pytest.mark.parametrize("to", ["relative", "replica/copy", "replica", "full", "file", "none/copy"])
def test_places_that_will_not_do_are_refused_before_anything_is_marked(tmp_path: Path, to: str) -> None:
    (tmp_path / "replica").mkdir()
    (tmp_path / "full/of").mkdir(parents=True)
    (tmp_path / "file").touch()
    copies = Copies((Map(b"/x", os.fsencode(tmp_path / "replica")),))
    with pytest.raises(UsageError):
        copies.begin({"id": "1", "to": to if to == "relative" else str(tmp_path / to)})


def test_an_empty_directory_will_do(tmp_path: Path) -> None:
    (tmp_path / "replica").mkdir()
    (tmp_path / "copy").mkdir()
    made(Copies((Map(b"/x", os.fsencode(tmp_path / "replica")),)), tmp_path / "copy")
    assert (tmp_path / "copy/x").is_dir()
