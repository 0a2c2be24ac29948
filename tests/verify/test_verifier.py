from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

import pytest

from livelift.errors import WireError
from livelift.platform.linux.mapped import writable_shared_mappings
from livelift.verify import cache as cache_module
from livelift.verify.cache import DigestCache, Mapped
from livelift.verify.verifier import TreeVerifier
from livelift.walk.attributes import attributes_at
from tests.verify.helpers import ask, fields, verifier

WHEN = 1_500_000_000_000_000_000


def make(root: Path, count: int = 300) -> None:
    for number in range(count):
        directory = root / f"d{number % 7}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"f{number}").write_bytes(b"%08d" % number * 10)
    for directory, _, names in os.walk(root, topdown=False):
        for name in names:
            os.utime(os.path.join(directory, name), ns=(WHEN, WHEN))
        os.utime(directory, ns=(WHEN, WHEN))


def spoil(path: Path) -> None:
    """Other content under the same size and mtime."""
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(WHEN, WHEN))


def test_several_maps_and_the_directory_call(tmp_path: Path) -> None:
    make(tmp_path / "a", 10)
    make(tmp_path / "b", 20)
    cache = DigestCache()
    roots = [(1, os.fsencode(tmp_path / "b")), (0, os.fsencode(tmp_path / "a"))]
    with TreeVerifier(roots, attributes_at, cache, lambda index, path: index == 1 and path == b"d3") as side:
        manifests = list(side.everything())
        assert [manifest.map for manifest in manifests] == [0] * 8 + [1] * 7
        assert side.directory(1, b"d3/x") is None
        one = side.directory(1, b"d2")
        assert one is not None and one.digest in {manifest.digest for manifest in manifests}
        with pytest.raises(WireError):
            side.lookup(5, [b""])
        done = side.finished()
        assert (done.directories, done.troubles) == (16, 0) and done.objects == side.counts.objects
    cache.close()


def test_a_root_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    cache = DigestCache()
    with pytest.raises(FileNotFoundError):
        TreeVerifier([(0, os.fsencode(tmp_path)), (1, os.fsencode(tmp_path / "no"))], attributes_at, cache)
    cache.close()


def test_a_sample_reads_a_part_of_the_files_but_all_metadata(tmp_path: Path) -> None:
    for name in "ab":
        make(tmp_path / name)
    for number in range(0, 300, 2):
        spoil(tmp_path / "b" / f"d{number % 7}" / f"f{number}")
    os.chmod(tmp_path / "b" / "d1" / "f1", 0o600)
    for path in (tmp_path / "b").rglob("*"):
        if path.is_dir():
            os.utime(path, ns=(WHEN, WHEN))
    with verifier(tmp_path / "a") as one, verifier(tmp_path / "b") as other:
        found, _ = ask(one, other, 0.2)
        assert (b"d1/f1", "mode") in fields(found)
        content = {path for path, field in fields(found) if field == "content"}
        assert one.counts.files == other.counts.files and 30 <= one.counts.files <= 95
        assert 10 <= len(content) <= 50
        found, _ = ask(one, other)
        assert len([difference for difference in found if difference.field == "content"]) == 150
        found, _ = ask(one, other, 0.0)
        assert fields(found) == {(b"d1/f1", "mode")} and one.counts.files == 0


def test_a_store_through_a_mapping_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store to a page that is dirty already moves no time stamp: only the list of mapped files saves the
    verification."""
    monkeypatch.setattr(cache_module, "RACY", 0)
    # On a busy machine the kernel may write the page out in between: then the store moves the stamp, no proof.
    assert any(store_without_a_stamp(tmp_path / str(attempt)) for attempt in range(10)), "the page was never dirty"


def store_without_a_stamp(tmp_path: Path) -> bool:
    """False if the stamp moved."""
    for name in "ab":
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "db").write_bytes(bytes(4096))
    path = tmp_path / "a" / "db"
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[0] = 1
        time.sleep(0.05)
        files = frozenset(writable_shared_mappings())
        assert (os.stat(path).st_dev, os.stat(path).st_ino) in files
        (tmp_path / "b" / "db").write_bytes(bytes([1]) + bytes(4095))
        for name in "ab":
            os.utime(tmp_path / name, ns=(WHEN, WHEN))
        stamp = os.stat(path)
        os.utime(tmp_path / "b" / "db", ns=(WHEN, stamp.st_mtime_ns))
        time.sleep(0.05)
        with verifier(tmp_path / "a") as one, verifier(tmp_path / "b") as other:
            one.mapped(Mapped(files, time.time_ns()))
            assert ask(one, other)[0] == []
            memory[1] = 1
            if os.stat(path).st_ctime_ns != stamp.st_ctime_ns:
                return False
            found, _ = ask(one, other)
            assert fields(found) == {(b"db", "content")}
            return True


def test_the_cache_outlives_the_verifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "RACY", 0)
    make(tmp_path / "tree", 50)
    time.sleep(0.02)
    counts = []
    for _ in range(2):
        cache = DigestCache(str(tmp_path / "cache"))
        with verifier(tmp_path / "tree", cache) as side:
            list(side.everything())
            counts.append((side.counts.files, side.counts.files_cached))
        cache.close()
    assert counts == [(50, 0), (0, 50)]
