"""Every kind of content record, on a plain directory, ext4 and XFS."""

from __future__ import annotations

import mmap
import os
import random
import stat
from pathlib import Path

import pytest

from livelift.model.record import BaseFile, Kind, Range
from livelift.platform.linux.files import allocated_extents, data_extents
from tests.loopfs import loop_filesystem
from tests.replay.conftest import Place
from tests.replay.logbook import ROOT, attributes

K = 1024


def read(place: Place, name: bytes) -> bytes:
    with open(place.path(name), "rb") as file:
        return file.read()


def layout(place: Place, name: bytes) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    fd = os.open(place.path(name), os.O_RDONLY)
    try:
        os.fsync(fd)
        # SEEK_DATA takes cached pages over an unwritten extent for data (a large folio that could not be split).
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        size = os.fstat(fd).st_size
        return [tuple(x) for x in data_extents(fd, size)], [tuple(x) for x in allocated_extents(fd, size)]  # type: ignore[misc]
    finally:
        os.close(fd)


@pytest.mark.root
def test_sparse_and_allocated_files_fresh_and_in_place(ext4: Place) -> None:
    data = {64 * K: b"A" * (4 * K), 256 * K: b"B" * (8 * K)}
    allocated = ((512 * K, 64 * K), (2048 * K, 64 * K))
    expected = bytes(64 * K) + b"A" * (4 * K) + bytes(188 * K) + b"B" * (8 * K) + bytes(1024 * K - 264 * K)
    with open(ext4.path(b"old"), "wb") as file:
        file.write(b"x" * (1500 * K))
    for oid, name in [(10, b"new"), (11, b"old")]:
        ext4.log.sparse(oid, ROOT, name, 1024 * K, data, allocated)
    ext4.apply()
    for name in (b"new", b"old"):
        assert layout(ext4, name) == ([(64 * K, 4 * K), (256 * K, 8 * K)], list(allocated))
        assert read(ext4, name) == expected


def test_a_file_in_pieces(place: Place) -> None:
    rng = random.Random(1)
    blob = mmap.mmap(-1, 3 << 20)
    blob[:] = rng.randbytes(3 << 20)
    whole = memoryview(blob)
    log = place.log
    with open(place.path(b"big"), "wb") as file:
        file.write(b"old" * 3000000)
    a = attributes(size=(8 << 20) + 5)
    log.add(Kind.BASE_BEGIN, BaseFile(10, ROOT, b"big", a))
    for offset in (0, 2 << 20, 5 << 20):
        record = log.add(Kind.BASE_EXTENT, Range(10, ROOT, b"big", offset, 1 << 20))
        record.payload = whole[(offset & 1 << 20) :][: 1 << 20]
    log.write(10, ROOT, b"big", (5 << 20) + 7, b"captured")
    record = log.add(Kind.BASE_EXTENT, Range(10, ROOT, b"big", 7 << 20, (1 << 20) + 5))
    record.payload = whole[1 << 20 :][: (1 << 20) + 5]
    log.add(Kind.BASE_END, BaseFile(10, ROOT, b"big", a, since=2))
    place.apply()
    expected = bytearray((8 << 20) + 5)
    expected[0 : 1 << 20] = whole[: 1 << 20]
    expected[2 << 20 : 3 << 20] = whole[: 1 << 20]
    expected[5 << 20 : 6 << 20] = whole[1 << 20 : 2 << 20]
    expected[(5 << 20) + 7 : (5 << 20) + 15] = b"captured"
    expected[7 << 20 :] = whole[1 << 20 : (2 << 20) + 5]
    assert read(place, b"big") == expected
    assert os.stat(place.path(b"big")).st_mtime_ns == a.mtime
    assert place.replayer.counters.bytes == (4 << 20) + 5 + 8
    del record, whole
    log.records.clear()


def each_range(place: Place) -> None:
    log = place.log
    content = bytes(range(256)) * 256  # 64 KiB
    log.base(10, ROOT, b"f", content)
    log.range(Kind.PUNCH, 10, ROOT, b"f", 4096, 8192)
    log.range(Kind.ZERO, 10, ROOT, b"f", 20000, 100)
    log.range(Kind.ZERO, 10, ROOT, b"f", 60 * K, 8 * K, flags=1)
    log.range(Kind.ALLOCATE, 10, ROOT, b"f", 64 * K, 8 * K, flags=1)
    log.range(Kind.ALLOCATE, 10, ROOT, b"f", 64 * K, 4 * K)
    log.write(10, ROOT, b"f", 70 * K, b"end")
    log.range(Kind.TRUNCATE, 10, ROOT, b"f", 70 * K + 2)
    log.xattr(10, ROOT, b"f", b"user.one", b"1")
    log.xattr(10, ROOT, b"f", b"user.two", b"2")
    log.xattr(10, ROOT, b"f", b"user.one", None)
    log.xattr(10, ROOT, b"f", b"user.none", None)
    place.apply()
    expected = bytearray(content + bytes(6 * K) + b"en")
    expected[4096:12288] = bytes(8192)
    expected[20000:20100] = bytes(100)
    expected[60 * K : 64 * K] = bytes(4 * K)
    assert read(place, b"f") == expected
    assert os.listxattr(place.path(b"f")) == ["user.two"]


def test_ranges(place: Place) -> None:
    each_range(place)


@pytest.mark.root
def test_collapse_and_insert_happen_once(ext4: Place) -> None:
    each_range(ext4)
    before = read(ext4, b"f")
    ext4.log.range(Kind.COLLAPSE, 10, ROOT, b"f", 8 * K, 4 * K)
    ext4.log.range(Kind.INSERT, 10, ROOT, b"f", 16 * K, 8 * K)
    ext4.apply()
    shorter = before[: 8 * K] + before[12 * K :]
    expected = shorter[: 16 * K] + bytes(8 * K) + shorter[16 * K :]
    assert read(ext4, b"f") == expected
    ext4.crash()
    assert ext4.replayer.apply(ext4.log.records).conflicts == []
    assert read(ext4, b"f") == expected
    ext4.log.range(Kind.COLLAPSE, 10, ROOT, b"f", 7, 9)  # no block boundary: this file system cannot do it
    assert [conflict.oid for conflict in ext4.replayer.apply(ext4.log.take()).conflicts] == [10]


@pytest.mark.root
def test_reflink_shares_or_copies(tmp_path: Path, ext4: Place) -> None:
    with loop_filesystem("xfs") as xfs:
        (xfs / "replica").mkdir()
        shared = Place(tmp_path / "state-xfs", xfs / "replica")
        for place in (shared, ext4):
            place.log.base(10, ROOT, b"from", b"0123456789abcdef" * K)
            place.log.create(11, ROOT, b"to")
            place.log.reflink(11, ROOT, b"to", (10, ROOT, b"from"), 16 * K)
            place.log.write(10, ROOT, b"from", 0, b"later")
            problems = place.replayer.apply(place.log.take()).problems
            assert [problem.code for problem in problems] == (["lost-reflink"] if place is ext4 else [])
            place.crash()
            assert place.replayer.apply(place.log.records).conflicts == []
            assert read(place, b"to") == b"0123456789abcdef" * K
        shared.replayer.close()


def test_elided_records_make_the_object_and_leave_the_content(place: Place) -> None:
    log = place.log
    log.base(10, ROOT, b"kept", b"content")
    place.apply()
    for oid, name in [(10, b"kept"), (11, b"new")]:
        body = BaseFile(oid, ROOT, name, attributes(stat.S_IFREG | 0o600, size=99), ((0, 99),))
        log.add(Kind.BASE_FILE, body, elided=True, length=99)
        log.add(Kind.WRITE, Range(oid, ROOT, name, 0, 5), elided=True, length=5)
    place.apply()
    assert read(place, b"kept") == b"content"
    assert read(place, b"new") == b""
    assert stat.S_IMODE(os.stat(place.path(b"kept")).st_mode) == 0o600


@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.TRUNCATE, Kind.PUNCH])
@pytest.mark.parametrize("what", ["nothing", "fifo", "directory", "symlink"])
def test_content_for_what_is_no_file_is_a_conflict(place: Place, kind: Kind, what: str) -> None:
    if what == "fifo":
        os.mkfifo(place.path(b"f"))
    elif what == "directory":
        os.mkdir(place.path(b"f"))
    elif what == "symlink":
        os.symlink(b"/etc/passwd", place.path(b"f"))
    place.log.range(kind, 10, ROOT, b"f", 0, 1)
    assert [conflict.oid for conflict in place.replayer.apply(place.log.take()).conflicts] == [10]


def test_a_reused_id_is_another_file(place: Place) -> None:
    """The descriptor that is kept open for an object must not outlive it."""
    log = place.log
    log.base(10, ROOT, b"a", b"old")
    log.write(10, ROOT, b"a", 0, b"OLD")
    log.link(10, ROOT, b"a", ROOT, b"b")
    log.unlink(10, ROOT, b"a")
    log.unlink(10, ROOT, b"b")
    log.base(10, ROOT, b"c", b"new")
    log.write(10, ROOT, b"c", 0, b"N")
    log.base(11, ROOT, b"d", b"other")
    log.write(11, ROOT, b"d", 0, b"O")
    log.rename(10, ROOT, b"c", ROOT, b"d", victim=11)
    log.create(11, ROOT, b"e")
    log.write(11, ROOT, b"e", 0, b"e")
    log.write(10, ROOT, b"d", 2, b"W")
    place.apply()
    assert (read(place, b"d"), read(place, b"e")) == (b"NeW", b"e")


def test_many_files_many_writes_two_workers(place: Place) -> None:
    rng = random.Random(3)
    log = place.log
    expected: dict[bytes, bytearray] = {}
    for number in range(400):
        name = b"f%d" % number
        expected[name] = bytearray(rng.randbytes(200))
        log.base(1000 + number, ROOT, name, bytes(expected[name]))
    for _ in range(3000):
        number = rng.randrange(400)
        name = b"f%d" % number
        offset, data = rng.randrange(150), rng.randbytes(50)
        expected[name][offset : offset + 50] = data
        log.write(1000 + number, ROOT, name, offset, data)
    place.apply()
    assert {name: read(place, name) for name in expected} == expected
