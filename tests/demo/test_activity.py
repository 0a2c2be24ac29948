"""The activity on the live tree: every operation happens, any of them may be the last."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from livelift.demo.activity import Activity, find_files


def tree_of(tmp_path: Path) -> Path:
    for number in range(20):
        path = tmp_path / f"usr/lib/{number % 3}/file-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(3000))
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/empty").touch()
    os.link(tmp_path / "usr/lib/0/file-0", tmp_path / "usr/lib/1/linked")
    return tmp_path


def test_every_kind_of_operation_happens(tmp_path: Path, rng: random.Random) -> None:
    tree = tree_of(tmp_path)
    before = {path: path.stat() for path in tree.rglob("*") if path.is_file()}
    activity = Activity(tree, rng)
    done = Counter(activity.step() for _ in range(600))
    assert len(done) == 10
    after = {path: path.stat() for path in before}  # nothing that a package owns disappears
    assert any(before[path].st_ino != after[path].st_ino for path in before), "no upgrade"
    assert any(before[path].st_ctime_ns != after[path].st_ctime_ns for path in before)
    assert (tree / "var/log/live/app.log.2.gz").exists()
    assert (tree / "srv/live/latest").is_symlink()
    assert not list(tree.rglob("*.dpkg-*"))


def test_hard_linked_and_large_files_are_left_alone(tmp_path: Path) -> None:
    tree = tree_of(tmp_path)
    (tree / "usr/large").write_bytes(bytes(1 << 20))
    found = find_files(tree)
    assert len(found) == 20
    assert not {tree / "usr/large", tree / "usr/lib/1/linked", tree / "usr/lib/0/file-0"} & set(found)


def test_process_counts_what_it_did_until_it_is_killed(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    tree = tree_of(tmp_path / "tree")
    counter = tmp_path / "counter"
    words = [sys.executable, "-m", "livelift.demo.activity", str(tree), str(counter), "200", "7"]
    with subprocess.Popen(words, cwd=Path(__file__).parents[2]) as process:
        try:
            deadline = time.monotonic() + 20
            while not counter.exists() or int(counter.read_text() or 0) < 50:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            process.kill()
    assert int(counter.read_text()) >= 50
