"""The judge would see it: each kind of damage to a planted tree is a difference. On this machine; none is started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.vm import shop
from tests.vm.judge import INSIDE, Files, differences


def told(top: Path) -> Files:
    words = [sys.executable, "-", str(top)]
    done = subprocess.run(words, input=INSIDE.read_text(), capture_output=True, text=True, check=True)
    return {bytes.fromhex(line["path"]): line for line in map(json.loads, done.stdout.splitlines())}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / "a").mkdir(parents=True)
    (top / "a/one").write_bytes(b"one\n")
    os.link(top / "a/one", top / "two")
    (top / "a/other").write_bytes(b"one\n")
    with (top / "sparse").open("wb") as file:
        file.truncate(8 << 20)
        file.seek(4 << 20)
        file.write(b"block")
    (top / "link").symlink_to("/nowhere")
    os.mkfifo(top / "pipe")
    os.setxattr(top / "a/one", "user.word", b"\0\xff")
    return top


def relink(tree: Path) -> None:
    """The same content and the same number of links, but another inode."""
    (tree / "two").unlink()
    shutil.copy2(tree / "a/one", tree / "two")
    os.link(tree / "a/one", tree / "a/third")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "content": (lambda tree: (tree / "a/other").write_bytes(b"two\n"), "digest"),
    "mode": (lambda tree: (tree / "a/other").chmod(0o4755), "mode"),
    "times": (lambda tree: os.utime(tree / "a/other", ns=(1, 1)), "mtime"),
    "attribute": (lambda tree: os.setxattr(tree / "a/one", "user.word", b"\0\xfe"), "xattrs"),
    "hard link": (relink, "links"),
    "symbolic link": (lambda tree: ((tree / "link").unlink(), (tree / "link").symlink_to("/now")), "target"),
    "type": (lambda tree: ((tree / "pipe").unlink(), (tree / "pipe").mkdir()), "type"),
    "missing": (lambda tree: (tree / "pipe").unlink(), "only on the source"),
    "more": (lambda tree: (tree / "new").touch(), "only there now"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_a_difference(tree: Path, damage: str) -> None:
    before = told(tree)
    assert differences(before, told(tree)) == []
    DAMAGE[damage][0](tree)
    found = differences(before, told(tree))
    assert any(DAMAGE[damage][1] in line for line in found), found


def test_a_hole_that_was_filled_is_a_difference(tree: Path) -> None:
    before = told(tree)
    assert before[os.fsencode(tree / "sparse")]["holes"][0] == [0, 4 << 20]
    with (tree / "sparse").open("r+b") as file:
        file.write(bytes(1 << 20))
        os.fsync(file.fileno())
    assert any("holes" in line for line in differences(before, told(tree)))


def test_where_the_ends_of_a_hole_are_is_none(tree: Path) -> None:
    before = told(tree)
    with (tree / "sparse").open("r+b") as file:
        file.seek((4 << 20) - 4096)
        file.write(bytes(4096) + b"block" + bytes(8187))
        os.fsync(file.fileno())
    after = told(tree)
    assert before[os.fsencode(tree / "sparse")]["holes"] != after[os.fsencode(tree / "sparse")]["holes"]
    lines = differences(before, after)
    assert len(lines) == 1 and "mtime" in lines[0] and "digest" not in lines[0] and "holes" not in lines[0]


@pytest.mark.root
@pytest.mark.parametrize(
    ("words", "field"),
    [(["chattr", "+i"], "flags"), (["setcap", "cap_net_raw=ep"], "xattrs"), (["chown", "5:6"], "gid")],
)
def test_what_only_root_can_do_is_a_difference(tree: Path, words: list[str], field: str) -> None:
    before, victim = told(tree), tree / "a/other"
    subprocess.run([*words, str(victim)], check=True, capture_output=True)
    try:
        assert any(field in line for line in differences(before, told(tree)))
    finally:
        subprocess.run(["chattr", "-i", str(victim)], check=True)


def test_the_package_is_one(tmp_path: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb")
    for version in ("1.0", "1.1"):
        deb = shop.build(version, tmp_path)
        listing = subprocess.run(["dpkg-deb", "--contents", deb], capture_output=True, text=True, check=True).stdout
        assert listing.count("./usr/share/shop/") > shop.FILES * 0.9 and "root/root" in listing
    assert sum(shop.content(n, "1.0") != shop.content(n, "1.1") for n in range(shop.FILES)) > 300
