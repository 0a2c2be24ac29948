"""The old tree is deleted whole, also what is immutable in it, and nothing that is mounted in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from livelift.errors import StateError
from livelift.platform.linux import inode_flags
from livelift.takeover.freeing import delete_tree
from tests.loopfs import loop_filesystem

pytestmark = pytest.mark.root


def guard(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    inode_flags.set_flags(fd, inode_flags.get_flags(fd) | inode_flags.IMMUTABLE)
    os.close(fd)


def test_everything_goes(tmp_path: Path) -> None:
    with loop_filesystem("ext4", 16) as disk:
        tree = disk / "new"
        (tree / "a/b").mkdir(parents=True)
        (tree / "a/b/file").write_text("x")
        (tree / "a/guarded").write_text("x")
        (tree / "link").symlink_to(tmp_path)
        os.mkfifo(tree / "pipe")
        (tmp_path / "outside").write_text("stays")
        guard(tree / "a/guarded")
        guard(tree / "a/b")
        guard(tree / "a")
        delete_tree(str(tree))
        assert not tree.exists() and (tmp_path / "outside").exists()
        delete_tree(str(tree))
        delete_tree(str(disk / "never/was"))


def test_what_is_mounted_stays(tmp_path: Path) -> None:
    tree = tmp_path / "new"
    (tree / "srv").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(tree / "srv")], check=True)
    try:
        (tree / "srv/data").write_text("somebody's")
        with pytest.raises(StateError, match="mounted at"):
            delete_tree(str(tree))
        assert (tree / "srv/data").exists()
    finally:
        subprocess.run(["umount", str(tree / "srv")], check=True)
    delete_tree(str(tree))
    assert not tree.exists()
