"""`ebpf-syscall` on real file systems: bytes and offsets of every call, and a mark where it cannot tell them."""

from __future__ import annotations

import ctypes
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from livelift.capture.choose import choose
from livelift.capture.ebpf.capture import EbpfSyscallCapture
from livelift.errors import PreflightError
from livelift.ports import Dirty, Exact, Lost, Named, Op, WatchedVolume
from tests.capture.conftest import Reader
from tests.capture.ebpf.conftest import elsewhere, records, replay, started

pytestmark = pytest.mark.root

KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO, INSERT = 1, 2, 8, 16, 32
_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = _libc.fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    if _fallocate(fd, mode, offset, length):
        pytest.skip(f"fallocate mode {mode}: {os.strerror(ctypes.get_errno())}")


@pytest.fixture
def file(here: Path, reader: Reader) -> int:
    """An open file of 20,000 bytes; what made it has been read."""
    path = here / "file"
    path.write_bytes(b"." * 20000)
    reader.drain()
    return os.open(path, os.O_RDWR)


def dirty(events: list, oid: int) -> list[Dirty]:
    return [e for e in events if isinstance(e, Dirty) and e.oid == oid and e.content]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda fd: os.write(fd, b"one"), [("WRITE", 0, 3, b"one")]),
        (lambda fd: [os.lseek(fd, 7, 0), os.write(fd, b"at")], [("WRITE", 7, 2, b"at")]),
        (lambda fd: os.pwrite(fd, b"x" * 5000, 12345), [("WRITE", 12345, 5000, b"x" * 5000)]),
        (lambda fd: os.writev(fd, [b"a" * 3, b"", b"b" * 4]), [("WRITE", 0, 3, b"aaa"), ("WRITE", 3, 4, b"bbbb")]),
        (lambda fd: os.pwritev(fd, [b"a", b"b"], 50), [("WRITE", 50, 1, b"a"), ("WRITE", 51, 1, b"b")]),
        (lambda fd: os.pwritev(fd, [b"a"], 60, os.RWF_DSYNC), [("WRITE", 60, 1, b"a")]),
        (lambda fd: os.ftruncate(fd, 77), [("TRUNCATE", 77, 0, b"")]),
        (lambda fd: fallocate(fd, 0, 100, 30000), [("ALLOCATE", 100, 30000, b"")]),
        (lambda fd: fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 4096, 4096), [("PUNCH", 4096, 4096, b"")]),
    ],
)
def test_a_call_is_told_exactly(
    reader: Reader, here: Path, file: int, change: Callable[[int], object], expected: list
) -> None:
    events = reader.caused_by(lambda: change(file))
    assert records(events, reader.oid(here / "file")) == expected
    os.close(file)


def test_large_buffers_come_in_pieces(reader: Reader, here: Path, file: int, seed: int) -> None:
    data = random.Random(seed).randbytes((4 << 20) - 5)
    events = reader.caused_by(lambda: os.pwrite(file, data, 3))
    oid = reader.oid(here / "file")
    assert replay(events, oid)[3:] == data
    assert [r[2] for r in records(events, oid)] == [65536] * 63 + [65531]
    os.close(file)


def test_appends_are_told_at_their_place(reader: Reader, here: Path, file: int) -> None:
    fd = os.open(here / "file", os.O_WRONLY | os.O_APPEND)
    events = reader.caused_by(lambda: [os.write(fd, b"one"), os.pwrite(file, b"-", 20005), os.write(fd, b"two")])
    assert records(events, reader.oid(here / "file")) == [
        ("WRITE", 20000, 3, b"one"),
        ("WRITE", 20005, 1, b"-"),
        ("WRITE", 20006, 3, b"two"),
    ]
    os.close(fd)
    os.close(file)


@pytest.mark.parametrize("how", ["open", "truncate"])
def test_an_open_that_cuts_the_file(reader: Reader, here: Path, file: int, how: str) -> None:
    path = here / "file"
    if how == "open":
        events = reader.caused_by(lambda: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)))
        assert records(events, reader.oid(path)) == [("TRUNCATE", 0, 0, b"")]
    else:  # by name: not told, looked at
        events = reader.caused_by(lambda: os.truncate(path, 5))
        assert dirty(events, reader.oid(path)) and not records(events, reader.oid(path))
    os.close(file)


@pytest.mark.parametrize(
    "what", ["pwrite-append", "collapse", "zero", "sendfile", "splice", "copy", "too-long", "many"]
)
def test_what_cannot_be_told_is_a_mark(reader: Reader, here: Path, file: int, what: str) -> None:
    other = os.open(here / "file", os.O_RDONLY)
    append = os.open(here / "file", os.O_WRONLY | os.O_APPEND)
    pipe = os.pipe()
    os.write(pipe[1], b"through a pipe")
    changes: dict[str, Callable[[], object]] = {
        "pwrite-append": lambda: os.pwrite(append, b"where?", 3),
        "collapse": lambda: fallocate(file, COLLAPSE, 4096, 4096),
        "zero": lambda: fallocate(file, ZERO, 0, 4096),
        "sendfile": lambda: os.sendfile(file, other, 0, 100),
        "splice": lambda: os.splice(pipe[0], file, 14),
        "copy": lambda: os.copy_file_range(other, file, 100, 0, 9000),
        "too-long": lambda: os.pwrite(file, bytes((4 << 20) + 1), 0),
        "many": lambda: os.writev(file, [b"v"] * 65),
    }
    events = reader.caused_by(changes[what])
    oid = reader.oid(here / "file")
    assert dirty(events, oid)
    assert what == "many" or not records(events, oid)
    for fd in (file, other, append, *pipe):
        os.close(fd)


def test_a_failed_write_is_not_told(reader: Reader, here: Path, file: int) -> None:
    fd = os.open(here / "file", os.O_RDONLY)

    def fail() -> None:
        with pytest.raises(OSError, match="Bad file"):
            os.pwrite(fd, b"no", 0)

    assert records(reader.caused_by(fail), reader.oid(here / "file")) == []
    os.close(fd)
    os.close(file)


def test_threads_that_share_a_position(reader: Reader, here: Path, file: int) -> None:
    """Whatever is told is told at its right offset; what two at once wrote may be a mark instead."""
    path = here / "shared"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    oid = reader.oid(path)

    def write(letter: bytes) -> None:
        for _ in range(400):
            os.write(fd, letter * 16)

    def both() -> None:
        threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    events = reader.caused_by(both)
    content = path.read_bytes()
    told = records(events, oid)
    raced = reader.capture.counters()["position-raced"]
    assert len(content) == 800 * 16 and len(told) + raced == 800
    assert all(content[offset : offset + length] == payload for _, offset, length, payload in told)
    assert dirty(events, oid)
    os.close(fd)
    os.close(file)


AIO = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open(sys.argv[1], os.O_RDWR)
context = ctypes.c_ulong()
setup, submit, collect = (206, 209, 208) if os.uname().machine == "x86_64" else (0, 2, 4)
assert libc.syscall(setup, 8, ctypes.byref(context)) == 0
data = ctypes.create_string_buffer(b"asynchronous", 12)
fields = (0, 0, 0, 1, 0, fd, ctypes.addressof(data), 12, 77, 0, 0, 0)  # linux/aio_abi.h, struct iocb
block = ctypes.create_string_buffer(struct.pack("=QIIHhIQQqQII", *fields))
blocks = (ctypes.c_void_p * 1)(ctypes.addressof(block))
assert libc.syscall(submit, context, ctypes.c_long(1), blocks) == 1
events = ctypes.create_string_buffer(32)
assert libc.syscall(collect, context, ctypes.c_long(1), ctypes.c_long(1), events, None) == 1
"""


def test_asynchronous_writes(reader: Reader, here: Path, file: int) -> None:
    """Told when they are collected; marked when they are submitted, for those that are collected without a call."""
    events = reader.caused_by(lambda: elsewhere(AIO, here / "file"))
    oid = reader.oid(here / "file")
    assert records(events, oid) == [("WRITE", 77, 12, b"asynchronous")]
    assert dirty(events, oid)
    os.close(file)


def test_a_write_that_the_programs_do_not_see_is_marked(reader: Reader, here: Path, file: int) -> None:
    """truncate(2) goes by name: fanotify is the net below. Right after content of the same file its mark waits, and
    comes before the sync mark."""
    path = here / "file"
    events = reader.caused_by(lambda: [os.pwrite(file, b"told", 0), os.truncate(path, 4)])
    assert records(events, reader.oid(path)) == [("WRITE", 0, 4, b"told")]
    assert dirty(events, reader.oid(path))
    os.close(file)


def test_content_comes_before_the_names_that_follow_it(reader: Reader, here: Path) -> None:
    """An inode number that is used again: the old file's content is not told after the new file's name."""
    path, new = here / "old", here / "new"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(fd, b"first")
    old = reader.oid(path)
    reader.drain()

    def change() -> None:
        os.pwrite(fd, b"last words", 0)
        os.unlink(path)
        os.close(fd)
        new.write_bytes(b"another")

    events = reader.caused_by(change)
    last = next(i for i, e in enumerate(events) if records([e], old) and records([e], old)[0][3] == b"last words")
    created = next(i for i, e in enumerate(events) if isinstance(e, Named) and e.op is Op.CREATED and e.name == b"new")
    assert last < created


def test_left_out_processes_are_not_told(volume: WatchedVolume, here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"")
    capture = started(EbpfSyscallCapture(ignored=(os.getpid(),)), volume)
    try:
        reader = Reader(capture, volume)
        script = "import os, sys; os.pwrite(os.open(sys.argv[1], os.O_RDWR), b'other', 0)"

        def change() -> None:
            path.write_bytes(b"mine")
            elsewhere(script, path)

        assert records(reader.caused_by(change), reader.oid(path)) == [("WRITE", 0, 5, b"other")]
    finally:
        capture.close()


def test_other_volumes_are_not_told(reader: Reader, here: Path, tmp_path: Path) -> None:
    events = reader.caused_by(lambda: (tmp_path / "elsewhere").write_bytes(b"not ours"))
    assert not any(isinstance(e, Exact) and e.record.payload == b"not ours" for e in events)


def test_random_calls_make_the_same_file(reader: Reader, here: Path, rng: random.Random) -> None:
    path = here / "random"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)

    def calls() -> None:
        for _ in range(500):
            offset, size = rng.randrange(200_000), rng.choice((1, 100, 129, 4096, 5000, 70_000))
            match rng.randrange(5):
                case 0:
                    os.pwrite(fd, rng.randbytes(size), offset)
                case 1:
                    os.lseek(fd, offset, 0)
                    os.write(fd, rng.randbytes(size))
                case 2:
                    os.ftruncate(fd, offset)
                case 3:
                    os.pwritev(fd, [rng.randbytes(size), rng.randbytes(7)], offset)
                case 4:
                    os.writev(fd, [rng.randbytes(3)] * 20)

    events = reader.caused_by(calls)
    assert replay(events, reader.oid(path)) == path.read_bytes()
    assert not [e for e in events if isinstance(e, Lost)]
    os.close(fd)


def test_asked_for_by_name_and_judged_by_what_arrived(volume: WatchedVolume, here: Path) -> None:
    try:
        capture, choice = choose([volume], "ebpf-syscall")
    except PreflightError as error:
        pytest.skip(f"ebpf-syscall: {error.args[0]}")
    assert capture.name == choice.name == "ebpf-syscall"
    assert choose([volume])[1].name != "ebpf-syscall", "auto stays with what is proven"
