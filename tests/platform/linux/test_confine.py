"""Opening inside of a root: both ways (one system call; step by step) answer the same, and never lead out."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from livelift.platform.linux.confine import open_by_steps, open_in_root

Open = Callable[..., int]


@pytest.fixture(params=[open_in_root, open_by_steps], ids=["openat2", "steps"])
def open_(request: pytest.FixtureRequest) -> Open:
    return request.param


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "etc").write_text("outside")
    inside = tmp_path / "root"
    (inside / "etc/sub").mkdir(parents=True)
    (inside / "etc/file").write_text("inside")
    for name, target in {
        "abs": "/etc/file", "rel": "file", "up": "../../../../../../etc/file", "dir": "/etc/sub/..", "loop": "loop",
        "gone": "/nothing", "chain": "/etc/abs", "escape": str(tmp_path / "etc"),
    }.items():  # fmt: skip
        (inside / "etc" / name).symlink_to(target)
    fd = os.open(inside, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def content(open_: Open, root: int, path: bytes) -> bytes:
    fd = open_(root, path, os.O_RDONLY)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


@pytest.mark.parametrize("path", [b"etc/file", b"/etc/file", b"/etc/abs", b"etc/rel", b"etc/up", b"etc/chain"])
def test_inside(open_: Open, root: int, path: bytes) -> None:
    assert content(open_, root, path) == b"inside"


def test_dots_stop_at_the_root(open_: Open, root: int) -> None:
    assert content(open_, root, b"../../etc/file") == b"inside"
    assert content(open_, root, b"etc/dir/file") == b"inside"


@pytest.mark.parametrize(
    ("path", "number"),
    [
        (b"etc/escape", errno.ENOENT),
        (b"etc/loop", errno.ELOOP),
        (b"etc/gone", errno.ENOENT),
        (b"none/x", errno.ENOENT),
        (b"etc/file/x", errno.ENOTDIR),
    ],
)
def test_errors(open_: Open, root: int, path: bytes, number: int) -> None:
    with pytest.raises(OSError) as caught:
        content(open_, root, path)
    assert caught.value.errno == number


def test_creating(open_: Open, root: int) -> None:
    fd = open_(root, b"etc/dir/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    os.close(fd)
    assert os.stat("etc/new", dir_fd=os.open(f"/proc/self/fd/{root}", os.O_PATH)).st_mode & 0o777 == 0o640


def test_the_root_itself(open_: Open, root: int) -> None:
    fd = open_(root, b"/", os.O_PATH | os.O_DIRECTORY)
    assert os.fstat(fd).st_ino == os.fstat(root).st_ino
    os.close(fd)


def test_no_follow_opens_the_link(open_: Open, root: int) -> None:
    fd = open_(root, b"etc/abs", os.O_PATH | os.O_NOFOLLOW)
    assert os.readlink("", dir_fd=fd) == "/etc/file"
    os.close(fd)
