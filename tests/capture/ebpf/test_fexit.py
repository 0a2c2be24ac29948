"""Mode `ebpf` where the kernel lets fexit programs load; elsewhere test_machines.py runs this file in virtual machines.

The ordering invariant: see ordering.py.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import random
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from livelift.capture.canary import sing
from livelift.capture.choose import choose
from livelift.capture.ebpf.capture import EbpfSyscallCapture
from livelift.capture.ebpf.inorder import EbpfFexitCapture
from livelift.errors import PreflightError
from livelift.model.record import Changed, Make, Range, Reflink, Rename, Unlink, Xattr
from livelift.platform.linux.files import RENAME_EXCHANGE, clone_range, renameat2
from livelift.ports import Dirty, Event, Exact, Lost, WatchedVolume
from tests.capture.conftest import Reader, volume_at
from tests.capture.ebpf.conftest import EbpfCapture, elsewhere, records, replay, started
from tests.capture.ebpf.ordering import writers
from tests.capture.ebpf.test_syscall import AIO, COLLAPSE, INSERT, KEEP_SIZE, PUNCH_HOLE, ZERO, fallocate
from tests.loopfs import loop_filesystem

pytestmark = pytest.mark.root

ROUNDS = int(os.environ.get("LIVELIFT_ROUNDS", "20000"))
"""Values of n in the ordering tests: twice as many log positions."""


def without_types(fstype: str) -> bool:
    """Linux before 5.11 describes no types of modules: the subvolumes of btrfs cannot be told apart then."""
    modules = Path("/proc/modules")
    is_module = modules.exists() and f"\n{fstype} " in "\n" + modules.read_text()
    return fstype == "btrfs" and is_module and not os.path.exists(f"/sys/kernel/btf/{fstype}")


@pytest.fixture(scope="module", params=["ext4", "xfs", "btrfs"])
def volume(request: pytest.FixtureRequest) -> Iterator[WatchedVolume]:
    with loop_filesystem(request.param, 400) as path:
        if without_types(request.param):
            pytest.skip("btrfs is a module, and this kernel describes no types of modules: refused, see below")
        yield volume_at(path, request.param)


@pytest.mark.parametrize(
    ("mode", "why"),
    [("ebpf", r"it did not report .*write.* \(btrfs\)"), ("ebpf-syscall", r"it told no content of .*write")],
)
def test_btrfs_that_cannot_be_told_apart_is_refused(mode: str, why: str) -> None:
    """By the canary: the second mode has marks of fanotify there, the first has nothing."""
    with loop_filesystem("btrfs") as path:
        if not without_types("btrfs"):
            pytest.skip("this kernel describes the types of btrfs")
        volume = volume_at(path, "btrfs")
        started(EbpfFexitCapture(), volume).close()
        with pytest.raises(PreflightError, match=why):
            choose([volume], mode)


@pytest.fixture
def reader(volume: WatchedVolume) -> Iterator[Reader]:
    capture = started(EbpfFexitCapture(), volume)
    try:
        yield Reader(capture, volume)
    finally:
        capture.close()


@pytest.fixture
def file(here: Path, reader: Reader) -> Iterator[int]:
    path = here / "file"
    path.write_bytes(b"." * 20000)
    reader.drain()
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda fd: os.write(fd, b"one"), [("WRITE", 0, 3, b"one")]),
        (lambda fd: os.pwrite(fd, b"x" * 5000, 12345), [("WRITE", 12345, 5000, b"x" * 5000)]),
        (lambda fd: os.writev(fd, [b"a" * 3, b"", b"b" * 4]), [("WRITE", 0, 3, b"aaa"), ("WRITE", 3, 4, b"bbbb")]),
        (lambda fd: os.pwritev(fd, [b"a", b"b"], 50), [("WRITE", 50, 1, b"a"), ("WRITE", 51, 1, b"b")]),
        (lambda fd: os.ftruncate(fd, 77), [("TRUNCATE", 77, 0, b"")]),
        (lambda fd: os.truncate(f"/proc/self/fd/{fd}", 7), [("TRUNCATE", 7, 0, b"")]),
        (lambda fd: fallocate(fd, 0, 100, 30000), [("ALLOCATE", 100, 30000, b"")]),
        (lambda fd: fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 4096, 4096), [("PUNCH", 4096, 4096, b"")]),
        (lambda fd: fallocate(fd, ZERO, 4096, 30000), [("ZERO", 4096, 30000, b"")]),
        (lambda fd: fallocate(fd, COLLAPSE, 4096, 4096), [("COLLAPSE", 4096, 4096, b"")]),
        (lambda fd: fallocate(fd, INSERT, 4096, 4096), [("INSERT", 4096, 4096, b"")]),
    ],
)
def test_a_change_is_told_exactly(
    reader: Reader, here: Path, file: int, change: Callable[[int], object], expected: list
) -> None:
    assert records(reader.caused_by(lambda: change(file)), reader.oid(here / "file")) == expected


def names(events: list[Event], here: Path, reader: Reader) -> list[tuple]:
    """(kind, name, new name, nlink) of the names below ``here``, in order."""
    directories = [here, *(path for path in here.rglob("*") if not path.is_symlink() and path.is_dir())]
    parents = {reader.oid(path) for path in directories}
    found = []
    for event in events:
        body = event.record.body if isinstance(event, Exact) else None
        if isinstance(body, Make | Unlink | Rename) and parents & {body.parent, getattr(body, "new_parent", 0)}:
            nlink = body.attributes.nlink if isinstance(body, Make) else 0
            found.append((event.record.kind.name, body.name, getattr(body, "new_name", b""), nlink))
    return found


def test_names_are_told_as_they_change(reader: Reader, here: Path) -> None:
    (here / "sub").mkdir()

    def change() -> None:
        (here / "a").write_bytes(b"x")
        os.link(here / "a", here / "b")
        os.symlink("x" * 1000, here / "s")
        os.mkfifo(here / "p")
        (here / "d").mkdir()
        os.rename(here / "a", here / "sub/a")
        os.rename(here / "b", here / "sub/a")  # two names of one file: nothing happens
        (here / "c").touch()
        os.rename(here / "c", here / "sub/a")
        renameat2(-100, bytes(here / "b"), -100, bytes(here / "s"), RENAME_EXCHANGE)
        os.unlink(here / "s")
        (here / "d").rmdir()
        os.unlink(here / "p")

    sub = reader.oid(here / "sub")
    events = reader.caused_by(change)
    assert names(events, here, reader) == [
        ("CREATE", b"a", b"", 1),
        ("CREATE", b"b", b"", 2),
        ("SYMLINK", b"s", b"", 1),
        ("MKNOD", b"p", b"", 1),
        ("MKDIR", b"d", b"", 2 if reader.volume.fstype != "btrfs" else 1),
        ("RENAME", b"a", b"a", 0),
        ("CREATE", b"c", b"", 1),
        ("RENAME", b"c", b"a", 0),
        ("RENAME", b"b", b"s", 0),
        ("UNLINK", b"s", b"", 0),
        ("RMDIR", b"d", b"", 0),
        ("UNLINK", b"p", b"", 0),
    ]
    renames = [e.record.body for e in events if isinstance(e, Exact) and isinstance(e.record.body, Rename)]
    assert [(r.new_parent == sub, r.flags, r.victim > 0) for r in renames] == [
        (True, 0, False), (True, 0, True), (False, 2, True),
    ]  # fmt: skip
    made = {e.record.body.name: e.record for e in events if isinstance(e, Exact) and isinstance(e.record.body, Make)}
    assert made[b"s"].body.attributes.target == b"x" * 1000
    assert made[b"a"].body.oid == made[b"b"].body.oid == renames[0].oid == renames[1].victim


def test_a_file_that_was_written_before_it_had_a_name(reader: Reader, here: Path) -> None:
    def change() -> None:
        fd = os.open(here, os.O_TMPFILE | os.O_RDWR)
        os.write(fd, b"content")
        os.link(f"/proc/self/fd/{fd}", here / "name", src_dir_fd=fd, follow_symlinks=True)
        os.close(fd)

    events = reader.caused_by(change)
    (made,) = [e.record.body for e in events if isinstance(e, Exact) and isinstance(e.record.body, Make)]
    assert (made.name, made.oid, made.attributes.size) == (b"name", reader.oid(here / "name"), 7)


def test_attributes_are_told_with_their_values(reader: Reader, here: Path, file: int) -> None:
    def change() -> None:
        os.fchmod(file, 0o4711)
        os.fchown(file, 5, 6)
        os.utime(here / "file", ns=(-7, 1_700_000_000_000_000_009))
        os.setxattr(file, "user.small", b"value")
        os.setxattr(file, "user.big", b"v" * 3000)
        os.removexattr(file, "user.small")

    oid = reader.oid(here / "file")
    told = [e.record for e in reader.caused_by(change) if isinstance(e, Exact) and e.record.body.oid == oid]
    changed = [record.body for record in told if isinstance(record.body, Changed)]
    assert next(b.mode & 0o7777 for b in changed if b.mode is not None) == 0o4711
    assert [(b.uid, b.gid) for b in changed if b.uid is not None] == [(5, 6)]
    assert changed[-1].mtime == 1_700_000_000_000_000_009 and changed[-1].atime in (-7, -1_000_000_000, 0)
    assert [(r.kind.name, r.body.key, bytes(r.payload)) for r in told if isinstance(r.body, Xattr)] == [
        ("XATTR_SET", b"user.small", b"value"),
        ("XATTR_SET", b"user.big", b"v" * 3000),
        ("XATTR_REMOVE", b"user.small", b""),
    ]


def test_stores_into_a_mapping_come_when_their_pages_are_written(reader: Reader, here: Path, file: int) -> None:
    oid = reader.oid(here / "file")
    with mmap.mmap(file, 20000) as mapped:

        def store() -> None:
            mapped[5000:5005] = b"store"
            mapped.flush()

        told = records(reader.caused_by(store), oid)
        assert told and all(kind == "WRITE" for kind, *_ in told)
        content = bytearray(b"." * 20000)
        for _, offset, length, payload in told:
            content[offset : offset + length] = payload
        assert bytes(content) == (here / "file").read_bytes() and content[5000:5005] == b"store"


def test_a_mapping_that_is_made_writable_later(reader: Reader, here: Path, file: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with mmap.mmap(file, 4096, mmap.MAP_SHARED, mmap.PROT_READ) as mapped:
        assert mapped[0] == ord(".")
        maps = Path("/proc/self/maps").read_text()
        start = int(next(line for line in maps.splitlines() if line.endswith(str(here / "file"))).split("-")[0], 16)
        assert libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(4096), 3) == 0

        def store() -> None:
            ctypes.memmove(start, b"later", 5)
            os.fsync(file)

        told = records(reader.caused_by(store), reader.oid(here / "file"))
        assert [payload[:5] for _, offset, _, payload in told if offset == 0] == [b"later"]


def test_shared_blocks_are_told_with_their_source(reader: Reader, here: Path, file: int) -> None:
    os.ftruncate(file, 16384)
    other = os.open(here / "other", os.O_RDWR | os.O_CREAT)
    os.write(other, b"o" * 16384)
    os.fsync(other)

    def change() -> None:
        os.pwrite(file, b"before", 0)
        clone_range(file, other, 4096, 8192, 0)
        os.pwrite(file, b"after", 0)

    try:
        events = reader.caused_by(change)
    except OSError as error:
        os.close(other)
        pytest.skip(f"{reader.volume.fstype}: {error.strerror}")
    oid = reader.oid(here / "file")
    told = [e.record for e in events if isinstance(e, Exact) and e.record.body.oid == oid]
    told = [record for record in told if isinstance(record.body, Range | Reflink)]
    assert [r.kind.name for r in told] == ["WRITE", "REFLINK", "WRITE"]
    body = told[1].body
    assert (body.offset, body.length, body.source_oid, body.source_offset) == (
        0, 8192, reader.oid(here / "other"), 4096,
    )  # fmt: skip
    assert not [e for e in events if isinstance(e, Dirty) and e.content and e.oid == oid]
    os.close(other)


@pytest.mark.parametrize("how", ["copy_file_range", "sendfile", "splice"])
def test_copies_within_the_kernel_are_told(reader: Reader, here: Path, file: int, how: str, rng: random.Random) -> None:
    data = rng.randbytes(150_000)
    (here / "source").write_bytes(data)
    os.sync()
    source = os.open(here / "source", os.O_RDONLY)

    def change() -> None:
        done = 0
        while done < len(data):
            if how == "copy_file_range":
                done += os.copy_file_range(source, file, len(data) - done, done, done)
            elif how == "sendfile":
                os.lseek(file, done, os.SEEK_SET)
                done += os.sendfile(file, source, done, len(data) - done)
            else:
                left, right = os.pipe()
                count = os.splice(source, right, 65536, offset_src=done)
                assert os.splice(left, file, count, offset_dst=done) == count
                done += count
                os.close(left)
                os.close(right)

    oid = reader.oid(here / "file")
    events = reader.caused_by(change)
    shared = [e for e in events if isinstance(e, Exact) and isinstance(e.record.body, Reflink)]
    assert not [e for e in events if isinstance(e, Dirty) and e.content and e.oid == oid]
    if not shared:
        assert replay(events, oid, b"." * 20000) == (here / "file").read_bytes() == data
    os.close(source)


def test_appends_and_asynchronous_writes(reader: Reader, here: Path, file: int) -> None:
    fd = os.open(here / "file", os.O_WRONLY | os.O_APPEND)
    events = reader.caused_by(lambda: [os.write(fd, b"one"), os.pwrite(fd, b"two", 5), elsewhere(AIO, here / "file")])
    assert records(events, reader.oid(here / "file")) == [
        ("WRITE", 20000, 3, b"one"),
        ("WRITE", 20003, 3, b"two"),
        ("WRITE", 77, 12, b"asynchronous"),
    ]
    os.close(fd)


def test_direct_writes(reader: Reader, here: Path, file: int) -> None:
    fd = os.open(here / "file", os.O_RDWR | os.O_DIRECT)
    with mmap.mmap(-1, 8192) as buffer:
        buffer[:] = b"d" * 8192
        events = reader.caused_by(lambda: os.pwrite(fd, buffer, 4096))
    # ext4 looks at the file twice when the first lock it took was not the one it needs: the same bytes again.
    assert set(records(events, reader.oid(here / "file"))) == {("WRITE", 4096, 8192, b"d" * 8192)}
    os.close(fd)


@pytest.mark.parametrize("direct", [0, 1], ids=["buffered", "direct"])
@pytest.mark.parametrize("engine", ["io_uring", "libaio", "pvsync2"])
def test_what_fio_writes(reader: Reader, here: Path, engine: str, direct: int, rng: random.Random) -> None:
    """Thousands of writes, 16 of them under way at a time, each block once."""
    if shutil.which("fio") is None:
        pytest.skip("fio is not installed")
    path, size = here / "fio", 4 << 20
    start = rng.randbytes(size)
    path.write_bytes(start)
    options = [f"--ioengine={engine}", f"--direct={direct}", "--iodepth=16", "--bs=4k", f"--size={size}"]
    command = ["fio", "--name=w", f"--filename={path}", "--rw=randwrite", "--fallocate=none", *options]
    said: list[str] = []

    def run() -> None:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        said.extend([done.stdout + done.stderr] if done.returncode else [])

    reader.drain()
    events = reader.caused_by(run)
    if said:
        pytest.skip(f"fio {engine}: {said[0][-200:]}")
    content = path.read_bytes()
    assert content != start
    assert replay(events, reader.oid(path), start) == content
    assert not [e for e in events if isinstance(e, Lost)]


@pytest.mark.parametrize("call", ["pwrite", "pwritev"])
def test_content_that_is_not_resident_keeps_its_place(
    reader: Reader, here: Path, file: int, call: str, rng: random.Random
) -> None:
    """A mapping that was never touched: its pages come while the file system copies them."""
    data = rng.randbytes(100_000)
    (here / "buffer").write_bytes(data)
    source = os.open(here / "buffer", os.O_RDONLY)
    with mmap.mmap(source, len(data), mmap.MAP_PRIVATE, mmap.PROT_READ) as buffer:

        def change() -> None:
            if call == "pwrite":
                os.pwrite(file, buffer, 10)
            else:
                os.pwritev(file, [buffer, b"tail"], 10)
            os.pwrite(file, b"after", 50)

        events = reader.caused_by(change)
    os.close(source)
    oid = reader.oid(here / "file")
    assert reader.capture.counters()["not-resident"] > 0, "it was resident: this test shows nothing"
    assert not [e for e in events if isinstance(e, Lost)]
    told = records(events, oid)
    assert told[-1] == ("WRITE", 50, 5, b"after")
    assert replay(events, oid)[10:] == (here / "file").read_bytes()[10:]


def test_a_write_that_fails_halfway_is_looked_at(reader: Reader, here: Path, file: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with mmap.mmap(-1, 3 * mmap.PAGESIZE) as buffer:
        address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        assert libc.munmap(ctypes.c_void_p(address + mmap.PAGESIZE), ctypes.c_size_t(mmap.PAGESIZE)) == 0
        written = []
        call = libc.pwrite64
        call.restype = ctypes.c_ssize_t
        call.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64)
        events = reader.caused_by(lambda: written.append(call(file, address, 2 * mmap.PAGESIZE, 0)))
        assert written[0] < 2 * mmap.PAGESIZE
        oid = reader.oid(here / "file")
        assert [e for e in events if isinstance(e, Dirty | Lost) and e.oid == oid]
        libc.mmap.restype = ctypes.c_void_p  # so that Python unmaps what is there
        libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64)
        libc.mmap(address + mmap.PAGESIZE, mmap.PAGESIZE, 3, 0x32, -1, 0)


def test_random_calls_make_the_same_file(reader: Reader, here: Path, rng: random.Random) -> None:
    path = here / "random"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)

    def calls() -> None:
        for _ in range(300):
            offset, size = rng.randrange(200_000), rng.choice((1, 100, 129, 4096, 5000, 70_000))
            match rng.randrange(3):
                case 0:
                    os.pwrite(fd, rng.randbytes(size), offset)
                case 1:
                    os.ftruncate(fd, offset)
                case 2:
                    os.pwritev(fd, [rng.randbytes(size), rng.randbytes(7)], offset)

    events = reader.caused_by(calls)
    assert replay(events, reader.oid(path)) == path.read_bytes()
    os.close(fd)


def test_the_canary_sees_everything_exactly(volume: WatchedVolume, here: Path) -> None:
    started(EbpfFexitCapture(), volume).close()
    report = sing(EbpfFexitCapture(), volume, bytes(here))
    assert report.missed == set() and report.exact >= set(EbpfFexitCapture.exact)


ADD_KEY, SET_POLICY = 0xC0506617, 0x800C6613
"""FS_IOC_ADD_ENCRYPTION_KEY, FS_IOC_SET_ENCRYPTION_POLICY: linux/fscrypt.h."""


def test_encrypted_directories_are_told_in_clear(rng: random.Random) -> None:
    """ext4 encrypts below all that is captured: names and content are the caller's."""
    with loop_filesystem("ext4", 64, mkfs_args=["-O", "encrypt"]) as path:
        (path / "secret").mkdir()
        directory = os.open(path / "secret", os.O_RDONLY)
        key = bytearray(struct.pack("=II32xII32x", 2, 0, 64, 0) + rng.randbytes(64))
        try:
            fcntl.ioctl(directory, ADD_KEY, key)
            policy = struct.pack("=BBBB4x16s", 2, 1, 4, 0, bytes(key[8:24]))
            fcntl.ioctl(directory, SET_POLICY, policy)
            (path / "secret/try").write_bytes(b"x")
        except OSError as error:
            pytest.skip(f"this kernel does not encrypt here: {error.strerror}")
        finally:
            os.close(directory)
        volume = volume_at(path, "ext4")
        started(EbpfFexitCapture(), volume).close()
        report = sing(EbpfFexitCapture(), volume, bytes(path / "secret"))
        assert report.missed == set() and report.exact >= set(EbpfFexitCapture.exact)
        capture = started(EbpfFexitCapture(), volume)
        try:
            events = Reader(capture, volume).caused_by(lambda: (path / "secret/name").write_bytes(b"in clear"))
        finally:
            capture.close()
        told = [e.record for e in events if isinstance(e, Exact)]
        assert any(isinstance(r.body, Make) and r.body.name == b"name" for r in told)
        assert any(r.kind.name == "WRITE" and bytes(r.payload) == b"in clear" for r in told)


def positions(capture: EbpfCapture, volume: WatchedVolume, here: Path, rounds: int, late: bool = False) -> list[int]:
    """How far B was from A - or rather A from B - at every position of the log; ``late``: with content read when the
    event is, as a mode of marks would do it."""
    paths = [here / "a", here / "b"]
    for path in paths:
        path.write_bytes(bytes(8))
    oids = [volume.index << 56 | os.stat(path).st_ino for path in paths]
    reader = Reader(capture, volume)
    reader.drain()
    children = writers(paths, rounds)
    fds = [os.open(path, os.O_RDONLY) for path in paths]
    values, skews = [0, 0], []
    deadline = time.monotonic() + 600
    over = False
    try:
        while not over:
            assert time.monotonic() < deadline
            over = all(child.poll() is not None for child in children)
            for event in reader.drain() if over else capture.read(0.2):
                assert not isinstance(event, Lost), event
                if isinstance(event, Exact) and event.record.body.oid in oids:
                    which = oids.index(event.record.body.oid)
                    payload = os.pread(fds[which], 8, 0) if late else event.record.payload
                    values[which] = struct.unpack("<Q", payload)[0]
                    skews.append(values[0] - values[1])
    finally:
        for child in children:
            child.kill()
            child.wait()
        for fd in fds:
            os.close(fd)
    assert len(skews) == 2 * rounds and (late or values == [rounds, rounds])
    return skews


@pytest.mark.timeout(900)
def test_every_position_of_the_log_is_a_cut(volume: WatchedVolume, here: Path, record_property: Callable) -> None:
    capture = started(EbpfFexitCapture(), volume)
    try:
        skews = positions(capture, volume, here, ROUNDS)
    finally:
        capture.close()
    wrong = sum(skew not in (0, 1) for skew in skews)
    print(f"{volume.fstype}: {len(skews)} positions, {wrong} violations")
    assert wrong == 0


@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["syscall", "late"])
def test_the_ordering_test_bites(volume: WatchedVolume, here: Path, how: str) -> None:
    """The same with the order of the calls' returns, and with content that is read late: both must be caught."""
    capture = started(EbpfFexitCapture() if how == "late" else EbpfSyscallCapture(), volume)
    try:
        skews = positions(capture, volume, here, 20_000 if how == "late" else 5000, late=how == "late")
    finally:
        capture.close()
    wrong = sum(skew not in (0, 1) for skew in skews)
    print(f"{volume.fstype}, {how}: {len(skews)} positions, {wrong} violations")
    if how == "syscall" and not wrong:
        pytest.skip("no two calls returned in another order than they wrote")
    assert wrong > 0
