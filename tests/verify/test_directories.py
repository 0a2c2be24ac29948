"""A directory of which nothing has changed needs no rows; whatever changes in it is seen."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from livelift.source.edge import attributes_at
from livelift.verify import cache as caches
from livelift.verify.cache import DigestCache, Mapped
from livelift.verify.directories import stamps_of
from livelift.verify.manifest import DirectoryManifest
from livelift.verify.verifier import TreeVerifier


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Old enough that its stamps are believed (see RACY)."""
    monkeypatch.setattr(caches, "RACY", 20_000_000)
    root = tmp_path / "tree"
    (root / "sub/empty").mkdir(parents=True)
    for number in range(5):
        (root / f"sub/{number}").write_text(f"content {number}")
    os.link(root / "sub/0", root / "link")
    (root / "sub/symlink").symlink_to("0")
    time.sleep(0.1)
    return root


def side(tree: Path, cache: DigestCache, ignore: Callable[[int, bytes], int] = lambda _map, _path: 0) -> TreeVerifier:
    return TreeVerifier([(0, os.fsencode(tree))], attributes_at, cache, ignore, threads=2)


def scan(verifier: TreeVerifier, fraction: float = 1.0) -> dict[bytes, DirectoryManifest]:
    verifier.begin(fraction, b"k" * 32)
    return {manifest.path: manifest for manifest in verifier.everything()}


def fresh(tree: Path) -> dict[bytes, bytes]:
    """Digests without any cache."""
    with side(tree, DigestCache()) as verifier:
        return {path: manifest.digest for path, manifest in scan(verifier).items()}


def digests(found: dict[bytes, DirectoryManifest]) -> dict[bytes, bytes]:
    return {path: manifest.digest for path, manifest in found.items()}


def test_the_second_time_no_row_is_made(tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "cache"
    with side(tree, cache := DigestCache(path)) as verifier:
        first = scan(verifier)
        links, counts = verifier.links.digest(0), verifier.counts
    cache.close()
    with side(tree, DigestCache(path)) as verifier:
        again = scan(verifier)
        assert all(m.made is not None for m in first.values()) and all(m.made is None for m in again.values())
        assert digests(again) == digests(first) == fresh(tree)
        assert [m.count for m in again.values()] == [m.count for m in first.values()]
        assert verifier.links.digest(0) == links
        now = verifier.counts
        assert (now.objects, now.files_cached) == (counts.objects, counts.files + counts.files_cached)
        assert now.bytes_cached == counts.bytes_hashed + counts.bytes_cached
        assert now.bytes_hashed == 0
        assert {p: m.rows for p, m in again.items()} == {p: m.rows for p, m in first.items()}
        assert verifier.counts.objects == now.objects, "rows that are asked for are not counted again"


CHANGES: dict[str, Callable[[Path], object]] = {
    "a write that keeps size and mtime": lambda sub: rewrite(sub / "1"),
    "a new file": lambda sub: (sub / "new").touch(),
    "a file is gone": lambda sub: (sub / "2").unlink(),
    "a rename": lambda sub: (sub / "3").rename(sub / "three"),
    "two files exchanged": lambda sub: exchange(sub / "3", sub / "4"),
    "a mode": lambda sub: (sub / "1").chmod(0o600),
    "a mode of a directory": lambda sub: (sub / "empty").chmod(0o700),
    "an xattr": lambda sub: os.setxattr(sub / "1", "user.x", b"y"),
    "a time": lambda sub: os.utime(sub / "1", (1, 1)),
    "a symlink's text": lambda sub: [(sub / "symlink").unlink(), (sub / "symlink").symlink_to("1")],
}


def rewrite(path: Path) -> None:
    times = path.stat()
    path.write_text(path.read_text().upper())
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def exchange(one: Path, other: Path) -> None:
    one.rename(one.parent / "between")
    other.rename(one)
    (one.parent / "between").rename(other)


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_is_seen(tree: Path, name: str) -> None:
    with side(tree, DigestCache()) as verifier:
        before = digests(scan(verifier))
        assert digests(scan(verifier)) == before
        CHANGES[name](tree / "sub")
        for _ in range(2):
            found = scan(verifier)
            assert digests(found) == fresh(tree) and found[b"sub"].digest != before[b"sub"]
            assert found[b"sub/empty"].made is None, "nothing has changed in it"


def test_what_is_young_or_mapped_is_not_kept(tree: Path) -> None:
    young = tree / "sub/1"
    with side(tree, DigestCache()) as verifier:
        verifier.mapped(Mapped(frozenset(), time.time_ns()))
        young.write_text("young")
        for _ in range(2):
            assert scan(verifier)[b"sub"].made is not None, "its stamp says nothing yet"
        time.sleep(0.1)
        verifier.mapped(Mapped(frozenset(), time.time_ns()))
        assert [scan(verifier)[b"sub"].made is None for _ in range(2)] == [False, True]
        status = young.stat()
        verifier.mapped(Mapped(frozenset({(status.st_dev, status.st_ino)}), time.time_ns()))
        assert scan(verifier)[b"sub"].made is not None, "it may change without a stamp"


def test_a_sample_neither_uses_nor_leaves_it(tree: Path) -> None:
    with side(tree, DigestCache()) as verifier:
        sampled = scan(verifier, 0.5)
        assert all(m.made is not None for m in sampled.values())
        whole = scan(verifier)
        assert digests(whole) == fresh(tree) and all(m.made is not None for m in whole.values())
        assert digests(scan(verifier, 0.5)) == digests(sampled)


def test_other_rules_are_another_directory(tree: Path) -> None:
    cache = DigestCache()
    with side(tree, cache) as verifier:
        every = digests(scan(verifier))
    with side(tree, cache, lambda _map, path: int(path == b"sub/1")) as verifier:
        fewer = scan(verifier)
        assert fewer[b"sub"].digest != every[b"sub"] and fewer[b"sub/empty"].made is None
    with side(tree, cache, lambda _map, path: 2 * (path == b"sub/1")) as verifier:
        assert scan(verifier)[b"sub"].digest not in (every[b"sub"], fewer[b"sub"].digest)


def test_times_beyond_64_bits() -> None:
    class Far:
        st_dev = st_ino = st_size = st_ctime_ns = 1
        st_mtime_ns = 1 << 64

    assert stamps_of([(0, b"x", Far())], []) == b""  # type: ignore[list-item]
