"""Choosing and copying parts of this system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from livelift.demo import systemtree
from livelift.demo.systemtree import Piece, build, candidates, choose, measure


def test_choice_reaches_both_goals_when_the_system_is_large_enough() -> None:
    dense = [Piece(Path(f"/share/{n}"), 500, 2 << 20) for n in range(100)]
    heavy = [Piece(Path(f"/lib/{n}"), 3, 10 << 20) for n in range(100)]
    chosen = choose(dense + heavy, 10_000, 500 << 20)
    assert sum(piece.entries for piece in chosen) >= 10_000
    assert 500 << 20 <= sum(piece.size for piece in chosen) <= 550 << 20
    assert {piece.path.parts[1] for piece in chosen} == {"share", "lib"}


def test_choice_leaves_out_what_would_crowd_out_the_rest_and_never_overshoots() -> None:
    toolchain = Piece(Path("/lib/toolchain"), 9000, 3 << 30)
    small = [Piece(Path(f"/lib/{n}"), 10, 1 << 20) for n in range(50)]
    chosen = choose([toolchain, *small], 100_000, 100 << 20)
    assert toolchain not in chosen
    assert sorted(chosen) == sorted(small)


def test_measure_counts_entries_and_blocks_and_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_bytes(b"x" * 100_000)
    (tmp_path / "a/out").symlink_to("/usr")
    piece = measure(tmp_path / "a")
    assert piece.entries == 4
    assert 100_000 <= piece.size < 200_000
    assert measure(tmp_path / "gone") == Piece(tmp_path / "gone", 0, 0)


def test_multiarch_directory_is_taken_in_pieces(tmp_path: Path) -> None:
    multiarch = "usr/lib/x86_64-linux-gnu"
    for name in (f"{multiarch}/one.so", f"{multiarch}/two.so", "usr/lib/python3/x", "usr/bin/ls"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = [str(path.relative_to(tmp_path)) for path in candidates(tmp_path)]
    assert names == ["usr/bin/ls", "usr/lib/python3", f"{multiarch}/one.so", f"{multiarch}/two.so"]


def test_build_copies_real_files(tmp_path: Path) -> None:
    said: list[str] = []
    piece = build(tmp_path, said.append, size=20 << 20, entries=2500)
    assert (tmp_path / "etc/passwd").read_bytes() == Path("/etc/passwd").read_bytes()
    assert (tmp_path / "etc/passwd").stat().st_mtime_ns == os.stat("/etc/passwd").st_mtime_ns
    assert (tmp_path / "usr").is_dir()
    assert measure(tmp_path).entries >= 0.9 * piece.entries > 1000
    assert "copying" in said[0]


def test_a_small_system_goes_in_more_than_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "system/usr/share"
    small.mkdir(parents=True)
    (small / "readme").write_bytes(b"text")
    monkeypatch.setattr(systemtree, "candidates", lambda: [small])
    tree = tmp_path / "tree"
    tree.mkdir()
    etc = measure(Path("/etc"))
    piece = build(tree, lambda text: None, size=4 * etc.size, entries=3 * etc.entries)
    assert piece.entries >= 2 * etc.entries
    assert (tree / "var/lib/machines/guest1/etc/passwd").exists()
