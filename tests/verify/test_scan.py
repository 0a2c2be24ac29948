from __future__ import annotations

import os
import stat
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from blake3 import blake3

from livelift.model.entry import Attributes
from livelift.verify import measure, scan
from livelift.verify.cache import DigestCache
from livelift.verify.content import Content
from livelift.verify.links import LinkTable
from livelift.verify.manifest import LISTING, DirectoryManifest
from livelift.verify.measure import Measurer
from livelift.verify.scan import Ignore, Scanner, Scope
from livelift.walk.attributes import attributes_at


class Bench:
    """A scanner over a directory, with what it needs."""

    def __init__(self, root: Path, ignore: Ignore = lambda _: 0, threads: int = 3) -> None:
        self.cache = DigestCache()
        self.links = LinkTable()
        self.measurer = Measurer(attributes_at, self.cache)
        self.pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self.scanner = Scanner(0, os.fsencode(root), self.measurer, self.links, ignore, self.pool)

    def all(self) -> dict[bytes, DirectoryManifest]:
        found = list(self.scanner.directories())
        assert [manifest.path for manifest in found] == sorted(
            (manifest.path for manifest in found), key=lambda path: path.split(b"/") if path else []
        )
        return {manifest.path: manifest for manifest in found}

    def close(self) -> None:
        if self.pool:
            self.pool.shutdown()
        self.scanner.close()
        self.links.close()
        self.cache.close()


@pytest.fixture(params=[1, 3], ids=["one thread", "three threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    descriptors = set(os.listdir("/proc/self/fd"))
    yield request.param
    assert len(os.listdir("/proc/self/fd")) <= len(descriptors)


def names(manifest: DirectoryManifest) -> list[bytes]:
    return [entry.name for entry in manifest.entries()]


def test_order_root_row_and_content(tmp_path: Path, threads: int) -> None:
    for directory in ("a", "a/b", "a-b", "z"):
        (tmp_path / directory).mkdir()
    (tmp_path / "a" / "f").write_bytes(b"text")
    os.symlink("/etc", tmp_path / "a" / "link")
    bench = Bench(tmp_path, threads=threads)
    found = bench.all()
    assert list(found) == [b"", b"a", b"a/b", b"a-b", b"z"]
    assert names(found[b""]) == [b"", b"a", b"a-b", b"z"]
    file, link = found[b"a"].entries()[1:]
    assert (file.name, file.size, file.content) == (b"f", 4, blake3(b"text").digest())
    assert (link.target, link.content) == (b"/etc", b"")
    assert found[b""].entries()[0].mode == os.stat(tmp_path).st_mode
    bench.close()


def test_names_of_any_bytes_and_paths_beyond_path_max(tmp_path: Path, threads: int) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    depth = 90
    for level in range(depth):
        name = b"\xff\n%03d" % level + b"x" * 200
        os.mkdir(name, dir_fd=fd)
        os.mkdir(b"side", dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    with open(os.open(b"bottom", os.O_WRONLY | os.O_CREAT, dir_fd=fd), "wb") as file:
        file.write(b"deep")
    os.close(fd)
    bench = Bench(tmp_path, threads=threads)
    found = bench.all()
    assert len(found) == 2 * depth + 1
    deepest = max(found, key=len)
    assert len(deepest) > 4 * 4096
    assert found[deepest].entries()[0].content == blake3(b"deep").digest()
    again = list(bench.scanner.lookup([deepest, b"side", deepest]))
    assert [manifest and manifest.digest for manifest in again] == [
        found[deepest].digest,
        found[b"side"].digest,
        found[deepest].digest,
    ]
    bench.close()


def test_ignored_and_bare_paths(tmp_path: Path, threads: int) -> None:
    for directory in ("proc/1", "keep", "tmp/x"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "keep" / "secret").write_text("s")
    scopes = {b"proc": Scope.BARE, b"tmp": Scope.SKIP, b"keep/secret": True}
    bench = Bench(tmp_path, lambda path: scopes.get(path, 0), threads)
    found = bench.all()
    assert list(found) == [b"", b"keep"]
    assert names(found[b""]) == [b"", b"keep", b"proc"] and names(found[b"keep"]) == []
    proc = found[b""].entries()[2]
    assert (proc.mode, proc.mtime, proc.uid) == (stat.S_IFDIR, 0, 0)
    bench.close()


def test_lookup_of_what_is_not_a_directory(tmp_path: Path, threads: int) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    bench = Bench(tmp_path, threads=threads)
    found = list(bench.scanner.lookup([b"file", b"missing", b"missing/x", b"link", b"link/x", b"real", b""]))
    assert [manifest.path if manifest else None for manifest in found] == [None, None, None, None, None, b"real", b""]
    bench.close()


def test_hard_links_are_collected(tmp_path: Path, threads: int) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "one").touch()
    os.link(tmp_path / "d" / "one", tmp_path / "two")
    os.symlink("x", tmp_path / "s1")
    os.link(tmp_path / "s1", tmp_path / "s2", follow_symlinks=False)
    bench = Bench(tmp_path, threads=threads)
    bench.all()
    assert list(bench.links.rows(0)) == [(b"s2", b"s1"), (b"two", b"d/one")]
    bench.close()


def test_what_vanishes_is_not_there(tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone directory").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    bench = Bench(tmp_path, threads=threads)

    def vanishing(dir_fd: int, name: bytes) -> Attributes:
        if name == b"b":
            (tmp_path / "b").unlink()
            (tmp_path / "gone directory").rmdir()
        return attributes_at(dir_fd, name)

    bench.measurer._attributes_at = vanishing
    found = {manifest.path: manifest for manifest in bench.scanner.directories()}
    assert b"b" not in names(found[b""]) and b"c" in names(found[b""])
    assert list(bench.scanner.lookup([b"gone directory"])) == [None]
    bench.close()


def test_a_file_that_never_rests_is_a_trouble(tmp_path: Path, threads: int) -> None:
    (tmp_path / "log").write_text("x")
    (tmp_path / "still").write_text("x")
    bench = Bench(tmp_path, threads=threads)
    looked = []

    def busy(dir_fd: int, name: bytes) -> Attributes:
        attributes = attributes_at(dir_fd, name)
        if name == b"log":
            looked.append(name)
            with (tmp_path / "log").open("a") as file:
                file.write("more")
        return attributes

    bench.measurer._attributes_at = busy
    (manifest,) = bench.scanner.directories()
    log = {entry.name: entry for entry in manifest.entries()}[b"log"]
    assert manifest.troubled and "changing" in log.trouble and len(looked) == measure.ATTEMPTS
    assert bench.measurer.counts.troubles == 1
    bench.close()


def test_an_unreadable_file_is_a_trouble_and_the_rest_goes_on(
    tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "bad", "c"):
        (tmp_path / name).write_text(name)
    real = measure.content_steps

    def broken(dir_fd: int, name: bytes, seen: os.stat_result) -> Generator[int, None, Content | None]:
        if name == b"bad":
            raise OSError(5, "Input/output error")
        return (yield from real(dir_fd, name, seen))

    monkeypatch.setattr(measure, "content_steps", broken)
    bench = Bench(tmp_path, threads=threads)
    (manifest,) = bench.scanner.directories()
    entries = {entry.name: entry for entry in manifest.entries()}
    assert entries[b"bad"].trouble == "EIO: Input/output error" and stat.S_ISREG(entries[b"bad"].mode)
    assert entries[b"c"].content == blake3(b"c").digest()
    bench.close()


def test_a_directory_that_cannot_be_listed(tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "good").mkdir()
    real = os.scandir

    def broken(fd: int) -> object:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("bad"):
            raise OSError(5, "Input/output error")
        return real(fd)

    monkeypatch.setattr(scan.os, "scandir", broken)
    bench = Bench(tmp_path, threads=threads)
    found = {manifest.path: manifest for manifest in bench.scanner.directories()}
    assert found[b"bad"].troubled and not found[b"good"].troubled
    (row,) = found[b"bad"].entries()
    assert (row.name, row.trouble) == (LISTING, "EIO: Input/output error")
    bench.close()


def test_numbers_beyond_64_bits_are_a_trouble(tmp_path: Path, threads: int) -> None:
    (tmp_path / "f").touch()
    bench = Bench(tmp_path, threads=threads)

    def far_future(dir_fd: int, name: bytes) -> Attributes:
        got = attributes_at(dir_fd, name)
        return Attributes(got.mode, got.uid, 1 << 70, got.size, got.mtime, got.atime, got.ctime)

    bench.measurer._attributes_at = far_future
    (manifest,) = bench.scanner.directories()
    assert all("64 bits" in entry.trouble for entry in manifest.entries())
    bench.close()


def test_a_scan_may_be_abandoned(tmp_path: Path, threads: int) -> None:
    for number in range(300):
        (tmp_path / f"d{number}").mkdir()
        (tmp_path / f"d{number}" / "f").write_text("x")
    bench = Bench(tmp_path, threads=threads)
    walk = bench.scanner.directories()
    for _ in range(3):
        next(walk)
    walk.close()
    bench.close()
    assert threading.active_count() >= 1


def test_a_directory_of_many_lots_keeps_its_order(tmp_path: Path, threads: int) -> None:
    for number in range(1000):
        (tmp_path / f"{number * 7919 % 1000:03d}").touch()
    bench = Bench(tmp_path, threads=threads)
    (manifest,) = bench.scanner.directories()
    assert names(manifest) == [b"", *(b"%03d" % number for number in range(1000))]
    bench.close()
