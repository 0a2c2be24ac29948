"""Map lines in each other, as a server job has them: every target file system gets its part of one tree."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.loopfs import loop_filesystem, run, unmount
from tests.oracle.compare import assert_equal
from tests.oracle.pair import LivePair

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.usefixtures("agents")]


class Scene(NamedTuple):
    """``source``: a tree with a plain directory ``var``, and disks at ``home`` and ``data``. ``replicas``: where the
    lines for the tree itself, ``var`` and ``home`` lead; ``data`` has none."""

    source: Path
    replicas: dict[str, Path]

    @property
    def maps(self) -> list[tuple[Path, Path]]:
        return [(self.source / name, replica) for name, replica in self.replicas.items()]


@pytest.fixture
def scene() -> Iterator[Scene]:
    with ExitStack() as undo:
        disks = [undo.enter_context(loop_filesystem("ext4", 40)) for _ in range(6)]
        source = disks[0] / "src"
        for name in ("etc", "var/log", "home", "data", "usr/share/doc"):
            (source / name).mkdir(parents=True)
        for name, disk in (("home", disks[1]), ("data", disks[2])):
            run("mount", "--bind", str(disk), str(source / name))
            undo.callback(unmount, source / name)
        (source / "etc/hosts").write_text("127.0.0.1 localhost\n")
        (source / "var/log/syslog").write_text("line\n" * 1000)
        (source / "var/log/messages").hardlink_to(source / "var/log/syslog")
        (source / "home/user").mkdir()
        (source / "home/user/file").write_bytes(os.urandom(300_000))
        (source / "data/table").write_bytes(os.urandom(70_000))
        replicas = {}
        for name, disk in (("", disks[3]), ("var", disks[4]), ("home", disks[5])):
            replicas[name] = disk / ".livelift/new"
            replicas[name].mkdir(parents=True)
        yield Scene(source, replicas)


def nothing_below(directory: Path) -> bool:
    return directory.is_dir() and not directory.is_symlink() and not any(directory.iterdir())


def test_each_line_has_its_part_and_the_outer_one_an_empty_directory(scene: Scene, tmp_path: Path) -> None:
    with LivePair(scene.maps, tmp_path) as pair:
        pair.wait_following()
        (scene.source / "var/log/new").write_text("captured\n")
        (scene.source / "etc/new").write_text("captured\n")
        os.rename(scene.source / "etc/hosts", scene.source / "var/hosts")  # one file system here, two there
        (scene.source / "usr/share/doc/a").write_text("in a directory that moves\n")
        os.rename(scene.source / "usr/share/doc", scene.source / "var/doc")
        (scene.source / "etc/both").write_text("one object here, two there\n")
        (scene.source / "var/both").hardlink_to(scene.source / "etc/both")
        pair.wait_following()
        (scene.source / "etc/both").write_text("changed through one name\n")
        time.sleep(1)
        report = pair.cutover()
        assert report["differences"] == 0
        replicas = scene.replicas
        assert nothing_below(replicas[""] / "var") and nothing_below(replicas[""] / "home")
        assert (replicas["var"] / "hosts").read_text() == "127.0.0.1 localhost\n"
        assert (replicas["var"] / "doc/a").exists() and not (replicas[""] / "usr/share/doc").exists()
        assert (replicas[""] / "data/table").stat().st_size == 70_000, "without a line: in the one above"
        assert {(replicas[line] / name).read_text() for line, name in (("", "etc/both"), ("var", "both"))} == {
            "changed through one name\n"
        }
        one, other = (replicas["var"] / "log" / name for name in ("syslog", "messages"))
        assert one.stat().st_ino == other.stat().st_ino
        assert_equal(scene.source / "var", replicas["var"])


def test_a_restart_finds_the_same(scene: Scene, tmp_path: Path) -> None:
    """The second walk compares with the index: what stands in for an inner line is neither gone nor new."""
    with LivePair(scene.maps, tmp_path) as pair:
        pair.wait_following()
        pair.kill9("source")
        (scene.source / "var/log/while-away").write_text("x")
        pair.restart("source")
        pair.wait_following()
        assert pair.cutover()["differences"] == 0
        assert nothing_below(scene.replicas[""] / "var")
        assert (scene.replicas["var"] / "log/while-away").exists()
