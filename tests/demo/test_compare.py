"""The judge: equal trees are equal, and each single difference is found and named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from livelift.demo.compare import CHUNK, compare, holes_lost, scan
from livelift.demo.nasties import _links, _names, _space, _times_and_modes


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    source = tmp_path / "source"
    source.mkdir()
    for plant in (_names, _links, _space, _times_and_modes):
        plant(source)
    (source / "plain").write_bytes(b"content" * 1000)
    os.setxattr(source / "plain", "user.key", b"value")
    replica = tmp_path / "replica"
    # preserving hard links, holes, times, owners, xattrs: an independent tool
    assert os.spawnlp(os.P_WAIT, "cp", "cp", "-a", "--sparse=auto", str(source), str(replica)) == 0
    return source, replica


def test_equal_trees_have_no_differences(trees: tuple[Path, Path]) -> None:
    verdict = compare(*trees)
    assert verdict.differences == []
    assert verdict.paths == sum(len(dirs) + len(files) for _, dirs, files, _ in os.fwalk(trees[0]))
    assert verdict.size > 1 << 20


def keep_times(path: Path, change: Callable[[Path], object]) -> None:
    """Change behind the back of everything that looks at times."""
    status, parent = path.lstat(), path.parent.stat()
    change(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
    os.utime(path.parent, ns=(parent.st_atime_ns, parent.st_mtime_ns))


def flip_a_byte(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(3000)
        byte = file.read(1)
        file.seek(3000)
        file.write(bytes([byte[0] ^ 1]))


def break_the_link(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)


def other_target(path: Path) -> None:
    path.unlink()
    path.symlink_to("/somewhere/else")


@pytest.mark.parametrize(
    ("where", "change", "named"),
    [
        ("plain", flip_a_byte, "plain: content"),
        ("plain", lambda path: path.chmod(0o4755), "plain: mode"),
        ("plain", lambda path: os.setxattr(path, "user.key", b"other"), "plain: xattrs"),
        ("plain", lambda path: os.removexattr(path, "user.key"), "plain: xattrs"),
        ("plain", lambda path: os.truncate(path, 6999), "plain: size"),
        ("links/b/two", break_the_link, "links/b/two: one with links/a/one"),
        ("links/dangling", other_target, "links/dangling: "),
    ],
    ids=["flip", "mode", "xattr", "no-xattr", "truncate", "link", "symlink"],
)
def test_each_difference_is_found(
    trees: tuple[Path, Path], where: str, change: Callable[[Path], object], named: str
) -> None:
    path = trees[1] / where
    keep_times(path, change)
    found = compare(*trees).differences
    assert any(line.startswith(named) for line in found), found


def test_an_extra_object_is_a_difference(trees: tuple[Path, Path]) -> None:
    (trees[1] / "space/extra").touch()
    assert any(line.startswith("space/extra: missing on the source") for line in compare(*trees).differences)


def test_a_time_one_nanosecond_off_is_a_difference(trees: tuple[Path, Path]) -> None:
    status = (trees[1] / "plain").stat()
    os.utime(trees[1] / "plain", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert [line.split(":")[:2] for line in compare(*trees).differences] == [["plain", " mtime"]]


def test_a_missing_directory_is_a_difference_for_each_path_below(trees: tuple[Path, Path]) -> None:
    shutil.rmtree(trees[1] / "links/b/c")
    lines = compare(*trees).differences
    assert any(line.startswith("links/b/c: ") and "missing on the replica" in line for line in lines)
    assert any(line.startswith("links/b/c/three: ") for line in lines)


def test_a_filled_hole_is_a_difference(trees: tuple[Path, Path]) -> None:
    path = trees[1] / "space/only-a-hole"
    times = path.stat()
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, 64 << 20)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert [line.split(":")[1] for line in compare(*trees).differences] == [" allocated"]


def test_an_unreadable_tree_is_an_error_and_not_equal(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(Exception, match="No such file"):
        compare(tmp_path / "there", tmp_path / "not-there")


def test_small_changes_of_allocation_are_no_lost_holes() -> None:
    assert not holes_lost(1 << 30, (1 << 30) + CHUNK)
    assert holes_lost(4096, 4096 + 2 * CHUNK)


def test_what_a_symlink_leads_to_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/usr/lib/ssl/private leads to a directory that only root may open: the judge of a demo without root fell over
    it."""
    (tmp_path / "tree" / "below").mkdir(parents=True)
    (tmp_path / "private").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "private")
    opened: list[object] = []
    real = os.open

    def note(path: object, *arguments: object, **named: object) -> int:
        opened.append(path)
        return real(path, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", note)
    tree = scan(str(tmp_path / "tree"))
    assert b"link" not in opened
    assert b"below" in opened
    assert tree.names.keys() == {b"link", b"below"}
