from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from livelift.verify import content
from livelift.verify.content import CONTEXT, PIECE, READ, Content, content_steps, open_quietly, read_content

MIB = 1 << 20


@pytest.fixture
def here(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def read(here: int, name: bytes = b"f") -> Content | None:
    return read_content(here, name, os.stat(name, dir_fd=here, follow_symlinks=False))


def expected(data: bytes) -> bytes:
    """The format once more, naively."""
    if len(data) <= PIECE:
        return blake3(data).digest()
    whole = blake3(len(data).to_bytes(8, "little"), derive_key_context=CONTEXT)
    for index in range(0, len(data), PIECE):
        piece = data[index : index + PIECE]
        if piece.strip(b"\0"):
            whole.update((index // PIECE).to_bytes(8, "little") + blake3(piece).digest())
    return whole.digest()


@pytest.mark.parametrize(
    "size",
    [1, 4095, READ, READ + 1, 4 * MIB - 1, 4 * MIB, 5 * MIB + 777, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 5],
)
def test_digest_at_every_boundary(tmp_path: Path, here: int, size: int) -> None:
    data = (b"%08d" % size + os.urandom(4096 - 8)) * (size // 4096 + 1)
    (tmp_path / "f").write_bytes(data[:size])
    assert read(here) == Content(expected(data[:size]), b"", size)


def test_holes_cost_nothing_and_do_not_change_the_digest(tmp_path: Path, here: int) -> None:
    size = 3 * PIECE + 5
    data = bytearray(size)
    data[PIECE + 100 : PIECE + 104] = b"data"
    (tmp_path / "full").write_bytes(data)
    with (tmp_path / "f").open("wb") as file:
        file.truncate(size)
        os.pwrite(file.fileno(), b"data", PIECE + 100)
    sparse, full = read(here), read(here, b"full")
    assert sparse is not None and full is not None
    assert sparse.digest == full.digest == expected(bytes(data))
    assert (sparse.read, full.read) == (PIECE, size)
    assert len(sparse.layout) == 16 and full.layout == b""


def test_a_hole_in_a_small_file_shows_in_the_layout(tmp_path: Path, here: int) -> None:
    layouts = set()
    for name, offset in ((b"a", 0), (b"b", 64 << 10)):
        fd = os.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=here)
        os.pwrite(fd, b"x", offset)
        os.truncate(fd, 200 << 10)
        os.close(fd)
        result = read(here, name)
        assert result is not None
        layouts.add(result.layout)
    assert len(layouts) == 2 and b"" not in layouts


@pytest.mark.parametrize("size", [1 << 40, 1 << 43])
def test_a_file_of_terabytes_is_hashed_at_once(tmp_path: Path, here: int, size: int) -> None:
    """As /var/log/lastlog is with large user ids."""
    with (tmp_path / "f").open("wb") as file:
        file.truncate(size)
        os.pwrite(file.fileno(), b"end", size - 3)
    began = time.monotonic()
    result = read(here)
    assert result is not None and result.read == PIECE
    assert time.monotonic() - began < 2
    tail = b"\0" * (PIECE - 3) + b"end"
    whole = blake3(size.to_bytes(8, "little"), derive_key_context=CONTEXT)
    assert result.digest == whole.update((size // PIECE - 1).to_bytes(8, "little") + blake3(tail).digest()).digest()


@pytest.mark.parametrize("size", [100, 3 * MIB, 20 * MIB])
@pytest.mark.parametrize("change", ["write", "append", "truncate", "replace", "remove", "symlink", "fifo"])
def test_a_file_that_changes_while_it_is_read_has_no_digest(tmp_path: Path, here: int, size: int, change: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"z" * size)
    seen = os.stat(path)
    steps = content_steps(here, b"f", seen)
    if change in ("write", "append", "truncate"):
        next(steps)  # the first read is done
        time.sleep(0.02)  # ctime moves in ticks of up to 10 ms
    if change == "write":
        with path.open("r+b") as file:
            file.write(b"z")
    elif change == "append":
        with path.open("ab") as file:
            file.write(b"z")
    elif change == "truncate":
        os.truncate(path, size // 2)
    else:
        path.unlink()
        if change == "replace":
            path.write_bytes(b"z" * size)
        elif change == "symlink":
            path.symlink_to("f2")
        elif change == "fifo":
            os.mkfifo(path)
    with pytest.raises(StopIteration) as end:
        while True:
            next(steps)
    assert end.value.value is None


def test_a_file_system_that_refuses_o_direct_is_read_buffered(
    tmp_path: Path, here: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(1 << 16) * 81
    (tmp_path / "f").write_bytes(data)
    real, refused = os.preadv, []

    def picky(fd: int, buffers: list[memoryview], offset: int) -> int:
        import fcntl

        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT:
            refused.append(offset)
            raise OSError(22, "no O_DIRECT here")
        return real(fd, buffers, offset)

    monkeypatch.setattr(content.os, "preadv", picky)
    assert read(here) == Content(blake3(data).digest(), b"", len(data))
    assert refused == [0]


def test_a_read_error_comes_through(tmp_path: Path, here: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"x" * (2 * MIB))

    def broken(fd: int, buffers: object, offset: int) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(content.os, "preadv", broken)
    with pytest.raises(OSError, match="Input/output"):
        read(here)


def test_steps_may_be_abandoned(tmp_path: Path, here: int) -> None:
    (tmp_path / "f").write_bytes(b"x" * (9 * MIB))
    before = len(os.listdir("/proc/self/fd"))
    steps = content_steps(here, b"f", os.stat(tmp_path / "f"))
    assert next(steps) == READ
    steps.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_fifo_is_not_waited_for(tmp_path: Path, here: int) -> None:
    os.mkfifo(tmp_path / "f")
    os.close(open_quietly(here, b"f"))
