"""A changed file's parts, applied to a copy of what the target has, give the file as it is now."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.merge.blocks import SMALL
from livelift.model.record import Kind
from livelift.platform.linux.files import KEEP_SIZE, PUNCH_HOLE, fallocate
from livelift.source.content import WINDOW, Digests, is_plain, parts_of, read_exactly, reader, wants_digests
from tests.loopfs import loop_filesystem

MIB = 1 << 20


class Follow:
    """A live file and the target's copy of it, brought up to date by `round`."""

    def __init__(self, directory: Path, direct: bool = False) -> None:
        self.live = directory / "live"
        self.copy = directory / "copy"
        self.live.touch()
        self.copy.touch()
        self.size = -1
        self.known: tuple[int, bytes] | None = None
        self.sent = 0
        self.direct = direct
        self.kinds: list[Kind] = []

    def round(self) -> int:
        """Bytes of payload that it took."""
        fd, to = os.open(self.live, os.O_RDONLY), os.open(self.copy, os.O_RDWR)
        self.sent, self.kinds = 0, []
        try:
            st = os.fstat(fd)
            new = wants_digests(st.st_size)
            with reader(fd, self.direct) as read:
                for part in parts_of(fd, st, self.size, self.known, new, read):
                    self.kinds.append(part.kind)
                    self.sent += len(part.payload)
                    assert len(part.payload) <= WINDOW or new is None
                    if part.kind is Kind.TRUNCATE:
                        os.ftruncate(to, part.offset)
                    elif part.kind is Kind.WRITE:
                        assert len(part.payload) == part.length
                        os.pwrite(to, part.payload, part.offset)
                    else:
                        assert part.kind is Kind.PUNCH
                        fallocate(to, PUNCH_HOLE | KEEP_SIZE, part.offset, part.length)
            self.size = st.st_size
            self.known = (new.block, bytes(new.value)) if new is not None else None
        finally:
            os.close(fd)
            os.close(to)
        assert self.copy.stat().st_size == self.live.stat().st_size
        assert self.copy.read_bytes() == self.live.read_bytes()
        return self.sent


def write(path: Path, offset: int, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(fd, data, offset)
    finally:
        os.close(fd)


def punch(path: Path, offset: int, length: int) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, offset, length)
    finally:
        os.close(fd)


@pytest.fixture(scope="module")
def ext4() -> Iterator[Path]:
    with loop_filesystem("ext4", 300) as mountpoint:
        yield mountpoint


@pytest.fixture
def here(ext4: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    path = ext4 / f"t{abs(hash(request.node.name))}"
    path.mkdir()
    yield path
    for file in path.iterdir():
        file.unlink()


@pytest.mark.root
@pytest.mark.parametrize("direct", [False, True])
def test_one_changed_database_page_in_a_big_file_is_cheap(here, rng, direct):
    follow = Follow(here, direct)
    follow.live.write_bytes(rng.randbytes(MIB) * 64)
    assert follow.round() == 64 * MIB
    write(follow.live, 33 * MIB + 8192 * 7, rng.randbytes(8192))
    assert 8192 <= follow.round() <= 32 << 10
    write(follow.live, 20 * MIB - 4096, rng.randbytes(8192))  # lies across two blocks
    assert 8192 <= follow.round() <= 32 << 10
    assert follow.round() == 0


@pytest.mark.root
@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("size", [3 * MIB, SMALL // 2])
def test_random_life_of_a_sparse_file(here, rng, direct, size):
    """Writes, holes, growth, shrinkage, in any order, through both sides of the limit for small files."""
    follow = Follow(here, direct)
    for _ in range(40):
        for _ in range(rng.randrange(1, 4)):
            at, length = rng.randrange(size), rng.choice([1, 500, 4096, 70_000])
            match rng.randrange(5):
                case 0 | 1:
                    write(follow.live, at, rng.randbytes(length))
                case 2:
                    punch(follow.live, at, length * 3)
                case 3:
                    os.truncate(follow.live, at)
                case 4:
                    os.truncate(follow.live, follow.live.stat().st_size + length)
        follow.round()
    assert follow.copy.stat().st_blocks <= follow.live.stat().st_blocks + 64 * 8, "holes stay holes"


@pytest.mark.root
def test_truncate_down_then_up(here, rng):
    """What grows back is a hole: the target must not show the old bytes there."""
    follow = Follow(here)
    follow.live.write_bytes(rng.randbytes(MIB))
    follow.round()
    os.truncate(follow.live, 5000)
    os.truncate(follow.live, MIB)
    follow.round()
    assert Kind.PUNCH in follow.kinds
    for size in (100, MIB, 0, 4097, 4096):
        os.truncate(follow.live, size)
        follow.round()


@pytest.mark.root
def test_a_hole_and_zeros_are_not_the_same(here):
    follow = Follow(here)
    follow.live.write_bytes(bytes(MIB))
    assert follow.round() == MIB
    punch(follow.live, 0, MIB // 2)
    follow.round()
    assert follow.kinds == [Kind.PUNCH]
    assert follow.copy.stat().st_blocks * 512 <= MIB // 2 + 4096
    write(follow.live, 0, bytes(16384))
    assert follow.round() == 16384


@pytest.mark.root
def test_a_sparse_terabyte_costs_what_it_holds(here):
    follow = Follow(here)
    os.truncate(follow.live, 1 << 40)
    write(follow.live, 1 << 39, b"x" * 5000)
    fd = os.open(follow.live, os.O_RDONLY)
    try:
        new = wants_digests(1 << 40)
        parts = list(parts_of(fd, os.fstat(fd), -1, None, new))
    finally:
        os.close(fd)
    assert [p.kind for p in parts if p.kind is not Kind.PUNCH] == [Kind.TRUNCATE, Kind.WRITE]
    assert sum(len(p.payload) for p in parts) <= new.block
    assert sum(p.length for p in parts) == 1 << 40
    assert len(new.value) <= 64 << 20


def test_append_from_two_writers(tmp_path):
    """O_APPEND from two threads while rounds go on: each round ends equal to what it saw, the last one to the file."""
    follow = Follow(tmp_path)
    follow.live.write_bytes(b"-" * (SMALL + 1))
    stop = threading.Event()

    def writer(letter: bytes) -> None:
        fd = os.open(follow.live, os.O_WRONLY | os.O_APPEND)
        try:
            for _ in range(300):
                os.write(fd, letter * 100)
                if stop.wait(0.0005):
                    return
        finally:
            os.close(fd)

    threads = [threading.Thread(target=writer, args=(letter,)) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        try:
            follow.round()
        except AssertionError:
            pass  # it grew meanwhile; digests and size are those of what was read, so the next round mends it
    for thread in threads:
        thread.join()
    follow.round()
    data = follow.copy.read_bytes()
    assert data.count(b"a") == data.count(b"b") == 30_000


def test_the_target_is_brought_to_any_state_from_any_other(tmp_path, rng):
    """Nothing known of the target (old size -1): whatever its copy holds, it is overwritten."""
    for size in (0, 1, 4096, SMALL, SMALL + 1, 3 * SMALL + 17):
        follow = Follow(tmp_path)
        follow.copy.write_bytes(rng.randbytes(2 * SMALL))
        follow.live.write_bytes(rng.randbytes(size))
        follow.round()


def test_read_exactly_ends_at_the_end(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDONLY)
    try:
        assert read_exactly(fd, 2, 3) == b"234"
        assert read_exactly(fd, 8, 100) == b"89"
        assert read_exactly(fd, 50, 1) == b""
        with reader(fd, direct=True) as read:
            assert (read(0, 4096), read(3, 4), read(4096, 10)) == (b"0123456789", b"3456", b"")
    finally:
        os.close(fd)


def test_small_files_keep_no_digests():
    assert wants_digests(SMALL) is None
    assert isinstance(wants_digests(SMALL + 1), Digests)


def test_a_plain_file_has_neither_holes_nor_reserves(tmp_path):
    """Only such a file may travel as one run of bytes."""
    path = tmp_path / "file"
    for size in (0, 1, 4096, 100_000):
        path.write_bytes(b"x" * size)
        os.sync()
        assert is_plain(os.stat(path)), size
    with path.open("wb") as file:
        file.truncate(100_000)
    os.sync()
    assert not is_plain(os.stat(path))
    path.write_bytes(b"x" * 10)
    fd = os.open(path, os.O_RDWR)
    fallocate(fd, KEEP_SIZE, 0, 60_000)
    os.close(fd)
    os.sync()
    assert not is_plain(os.stat(path))
