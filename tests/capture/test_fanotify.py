"""FanotifyCapture on ext4, XFS, btrfs and tmpfs: operations, order, loss, other processes, blind spots."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.capture.fanotify import FanotifyCapture
from livelift.errors import PreflightError
from livelift.platform.linux.fanotify import MAX_QUEUED_EVENTS
from livelift.ports import Dirty, Event, Lost, Named, Op, Synced, WatchedVolume
from tests.capture.conftest import Reader, volume_at
from tests.loopfs import loop_filesystem, run

pytestmark = pytest.mark.root


@pytest.fixture
def reader(volume: WatchedVolume, here: Path) -> Iterator[Reader]:
    capture = FanotifyCapture()
    capture.start([volume], lambda _: False)
    try:
        yield Reader(capture, volume)
    finally:
        capture.close()


def named(events: list[Event]) -> list[tuple[object, ...]]:
    return [tuple(event[:7]) for event in events if isinstance(event, Named)]


def dirty(events: list[Event]) -> set[tuple[int, bool]]:
    return {(event.oid, event.content) for event in events if isinstance(event, Dirty)}


def test_create_write_and_attributes(reader: Reader, here: Path) -> None:
    file, parent = here / "file", reader.oid(here)
    events = reader.caused_by(file.touch)
    assert named(events)[0] == (Op.CREATED, parent, b"file", reader.oid(file), 0, b"", False)

    events = reader.caused_by(lambda: file.write_bytes(b"x" * 5000))
    assert [event[:4] for event in events if isinstance(event, Dirty)] == [(reader.oid(file), True, parent, b"file")]

    for change in (
        lambda: os.chmod(file, 0o600),
        lambda: os.chown(file, 1, 1),
        lambda: os.utime(file, ns=(1, 1)),
        lambda: os.setxattr(file, "trusted.livelift", b"1"),
        lambda: os.removexattr(file, "trusted.livelift"),
    ):
        assert dirty(reader.caused_by(change)) == {(reader.oid(file), False)}

    assert (reader.oid(file), True) in dirty(reader.caused_by(lambda: os.truncate(file, 10)))


def test_directories_links_and_special_files(reader: Reader, here: Path) -> None:
    directory, file, parent = here / "directory", here / "file", reader.oid(here)
    file.touch()
    assert named(reader.caused_by(directory.mkdir)) == [
        (Op.CREATED, parent, b"directory", reader.oid(directory), 0, b"", True)
    ]
    inside = reader.oid(directory)
    assert dirty(reader.caused_by(lambda: directory.chmod(0o700))) == {(inside, False)}

    events = reader.caused_by(lambda: os.link(file, directory / "link"))
    assert named(events) == [(Op.CREATED, inside, b"link", reader.oid(file), 0, b"", False)]
    events = reader.caused_by(lambda: os.symlink("nowhere", directory / "symlink"))
    assert named(events) == [(Op.CREATED, inside, b"symlink", reader.oid(directory / "symlink"), 0, b"", False)]
    events = reader.caused_by(lambda: os.mkfifo(directory / "fifo"))
    assert named(events) == [(Op.CREATED, inside, b"fifo", reader.oid(directory / "fifo"), 0, b"", False)]

    child = reader.oid(directory / "link")
    events = reader.caused_by(lambda: (directory / "link").unlink())
    assert named(events) == [(Op.REMOVED, inside, b"link", child, 0, b"", False)]
    for name in ("symlink", "fifo"):
        (directory / name).unlink()
    events = reader.caused_by(directory.rmdir)
    assert named(events) == [(Op.REMOVED, parent, b"directory", inside, 0, b"", True)]


def test_renames(reader: Reader, here: Path) -> None:
    one, two = here / "one", here / "two"
    one.mkdir()
    two.mkdir()
    (one / "a").touch()
    file, first, second = reader.oid(one / "a"), reader.oid(one), reader.oid(two)
    events = reader.caused_by(lambda: (one / "a").rename(two / "b"))
    assert named(events) == [(Op.RENAMED, first, b"a", file, second, b"b", False)]

    (one / "new").touch()
    winner = reader.oid(one / "new")
    events = reader.caused_by(lambda: (one / "new").rename(two / "b"))
    assert named(events) == [(Op.RENAMED, first, b"new", winner, second, b"b", False)]
    assert (file, False) in dirty(events)  # the victim lost a link

    events = reader.caused_by(lambda: two.rename(one / "moved"))
    assert named(events) == [(Op.RENAMED, reader.oid(here), b"two", second, first, b"moved", True)]


def test_exchange_is_two_renames(reader: Reader, here: Path) -> None:
    a, b = here / "a", here / "b"
    a.touch()
    b.mkdir()
    one, two, parent = reader.oid(a), reader.oid(b), reader.oid(here)
    events = named(reader.caused_by(lambda: exchange(a, b)))
    assert events[:2] == [
        (Op.RENAMED, parent, b"a", one, parent, b"b", False),
        (Op.RENAMED, parent, b"b", two, parent, b"a", True),
    ]
    assert {event[:3] for event in events[2:]} == {(Op.TOUCHED, parent, b"a"), (Op.TOUCHED, parent, b"b")}


def exchange(a: Path, b: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.renameat2(-100, bytes(a), -100, bytes(b), 2) == 0, os.strerror(ctypes.get_errno())


def test_the_file_handle_of_an_event_opens_the_object(reader: Reader, here: Path, volume: WatchedVolume) -> None:
    from livelift.platform.linux.handles import open_handle

    events = reader.caused_by(lambda: (here / "file").write_bytes(b"content"))
    handles = {event.handle for event in events if isinstance(event, Named | Dirty)}
    assert len(handles) == 1
    mount = os.open(volume.mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with open(open_handle(mount, handles.pop(), os.O_RDONLY), "rb") as file:
            assert file.read() == b"content"
    finally:
        os.close(mount)


def test_a_write_after_unlink_still_names_the_object(reader: Reader, here: Path) -> None:
    with open(here / "open", "wb", buffering=0) as file:
        oid = reader.oid(here / "open")
        (here / "open").unlink()
        assert (oid, True) in dirty(reader.caused_by(lambda: file.write(b"after")))


def test_many_writes_are_one_dirty(reader: Reader, here: Path) -> None:
    file = here / "file"
    other = here / "other"
    other.touch()
    with open(file, "wb", buffering=0) as writer:

        def write() -> None:
            for _ in range(200):
                writer.write(b"x")
                other.write_bytes(b"y")

        events = reader.caused_by(write)
    assert [event.oid for event in events if isinstance(event, Dirty) and event.content] == [
        reader.oid(file),
        reader.oid(other),
    ]


def test_a_late_event_that_the_kernel_merged_into_an_early_one_gets_a_second_look(reader: Reader, here: Path) -> None:
    """The last event on "x" says that it went, but it is there: so the names come again as TOUCHED."""

    def change() -> None:
        (here / "x").touch()
        os.rename(here / "x", here / "b")
        os.link(here / "b", here / "x")
        os.unlink(here / "b")

    names = [(event.op, event.name) for event in reader.caused_by(change) if isinstance(event, Named)]
    assert names == [
        (Op.CREATED, b"x"),
        (Op.RENAMED, b"x"),
        (Op.REMOVED, b"b"),
        (Op.TOUCHED, b"x"),
        (Op.TOUCHED, b"b"),
    ]
    assert (here / "x").exists()


def test_renames_to_and_fro_get_a_second_look_before_the_sync_mark(reader: Reader, here: Path) -> None:
    (here / "a").mkdir()
    reader.drain()
    for old, new in ("ab", "ba", "ab"):
        os.rename(here / old, here / new)
    reader.capture.sync(77)
    (here / "later").touch()
    events = [(event.op, event.name) if isinstance(event, Named) else event for event in reader.capture.read(1)]
    assert events == [
        (Op.RENAMED, b"a"),
        (Op.RENAMED, b"b"),  # the third was merged into the first
        (Op.TOUCHED, b"b"),
        (Op.TOUCHED, b"a"),
        Synced(77),
        (Op.CREATED, b"later"),
    ]


def test_a_name_that_was_read_before_needs_no_second_look(reader: Reader, here: Path) -> None:
    (here / "a").touch()
    reader.drain()
    events = reader.caused_by(lambda: os.rename(here / "a", here / "b"))
    assert [event.op for event in events if isinstance(event, Named)] == [Op.RENAMED]


def test_create_and_delete_of_one_link_in_one_event_is_touched(reader: Reader, here: Path) -> None:
    (here / "file").touch()
    reader.drain()
    os.link(here / "file", here / "link")
    os.unlink(here / "link")
    events = reader.drain()
    assert [(event.op, event.name, event.child) for event in events if isinstance(event, Named)] == [
        (Op.TOUCHED, b"link", reader.oid(here / "file"))
    ]


def test_sync_comes_after_what_happened_before_and_before_what_happens_later(reader: Reader, here: Path) -> None:
    capture = reader.capture
    reader.drain()
    for number in range(1, 21):
        (here / f"before-{number}").touch()
        capture.sync(1000 + number)
    (here / "after").touch()
    order: list[object] = []
    while b"after" not in order:
        for event in capture.read(1):
            if isinstance(event, Synced):
                order.append(event.token - 1000)
            elif isinstance(event, Named):
                order.append(event.name)
    expected: list[object] = []
    for number in range(1, 21):
        expected += [b"before-%d" % number, number]
    assert order == [*expected, b"after"]


def test_sync_without_marks_waits_for_the_empty_queue(reader: Reader, here: Path) -> None:
    capture = reader.capture
    assert isinstance(capture, FanotifyCapture) and capture._queue is not None
    reader.drain()
    assert capture._queue.marks
    capture._queue.marks = False
    (here / "file").touch()
    capture.sync(7)
    events = capture.read(5)
    assert named(events) and Synced(7) not in events
    assert Synced(7) in reader.capture.read(5)
    started = time.monotonic()
    assert capture.read(0.05) == []
    assert time.monotonic() - started >= 0.04


def test_another_process_is_seen(reader: Reader, here: Path) -> None:
    script = "import sys; open(sys.argv[1], 'w').write('x')"
    events = reader.caused_by(lambda: subprocess.run([sys.executable, "-c", script, here / "theirs"], check=True))
    assert (Op.CREATED, b"theirs") in [(event.op, event.name) for event in events if isinstance(event, Named)]
    assert (reader.oid(here / "theirs"), True) in dirty(events)


def test_own_process_can_be_left_out(volume: WatchedVolume, here: Path) -> None:
    capture = FanotifyCapture(ignore_pid=os.getpid())
    capture.start([volume], lambda _: False)
    try:
        reader = Reader(capture, volume)
        (here / "mine").touch()
        subprocess.run(["touch", here / "theirs"], check=True)
        names = {event.name for event in reader.drain() if isinstance(event, Named)}
        assert b"theirs" in names and b"mine" not in names
    finally:
        capture.close()


def test_mmap_stores_and_inode_flags_are_not_seen(reader: Reader, here: Path, volume: WatchedVolume) -> None:
    """This is what `blind_to` says. If a kernel learns it, this fails and the claim can go."""
    assert {"mmap", "inode-flags"} <= set(FanotifyCapture.blind_to)
    file = here / "mapped"
    file.write_bytes(bytes(8192))

    def store() -> None:
        with open(file, "r+b") as opened, mmap.mmap(opened.fileno(), 8192) as mapped:
            mapped[4096:4100] = b"late"
            mapped.flush()

    assert [event for event in reader.caused_by(store) if getattr(event, "oid", 0) == reader.oid(file)] == []
    assert file.read_bytes()[4096:4100] == b"late"

    def chattr() -> None:
        with open(file, "rb") as opened:
            flags = bytearray(struct.pack("=l", 0))
            fcntl.ioctl(opened, 0x80086601, flags)  # FS_IOC_GETFLAGS
            changed = struct.pack("=l", struct.unpack("=l", flags)[0] | 0x40)  # FS_NODUMP_FL
            fcntl.ioctl(opened, 0x40086602, changed)  # FS_IOC_SETFLAGS

    try:
        events = reader.caused_by(chattr)
    except OSError as error:
        assert volume.fstype == "tmpfs" and error.errno in (errno.ENOTTY, errno.EOPNOTSUPP)
    else:
        assert events == []


def test_names_alone_on_kernels_before_5_17(volume: WatchedVolume, here: Path) -> None:
    capture = FanotifyCapture(flavours=("name",))
    capture.start([volume], lambda _: False)
    try:
        reader, parent = Reader(capture, volume), reader_oid(volume, here)
        (here / "a").write_bytes(b"x")
        oid = reader.oid(here / "a")
        (here / "a").rename(here / "b")
        events = [event for event in reader.drain() if isinstance(event, Named | Dirty) and event.parent == parent]
        assert [event[:4] for event in events] == [
            (Op.TOUCHED, parent, b"a", 0),
            (oid, True, parent, b"a"),
            (Op.TOUCHED, parent, b"b", 0),
        ]
    finally:
        capture.close()


def reader_oid(volume: WatchedVolume, path: Path) -> int:
    return Reader(FanotifyCapture(), volume).oid(path)


@pytest.mark.parametrize("file_system", ["tmpfs"], indirect=True)
def test_overflow_of_a_limited_queue_is_lost(volume: WatchedVolume, here: Path) -> None:
    limit = int(Path(MAX_QUEUED_EVENTS).read_text())
    if limit > 50_000:
        pytest.skip(f"fs.fanotify.max_queued_events is {limit}: too many to fill here")
    capture = FanotifyCapture(limited_queue=True)
    capture.start([volume], lambda _: False)
    try:
        for number in range(limit + 10):
            os.mknod(here / str(number))
        events: list[Event] = []
        while not any(isinstance(event, Lost) for event in events):
            got = capture.read(1)
            assert got, "the queue is empty and no loss was reported"
            events += got
        lost = events[-1]
        assert isinstance(lost, Lost) and (lost.oid, lost.volume, lost.reason) == (0, -1, "queue overflow")
        assert len(named(events)) >= limit - 10
    finally:
        capture.close()


@pytest.mark.parametrize("file_system", ["tmpfs"], indirect=True)
def test_twenty_thousand_events_are_all_there_and_cheap(reader: Reader, here: Path) -> None:
    """The goal is 5 us an event; the bound leaves room for a busy test machine."""
    reader.drain()
    for number in range(20_000):
        os.mknod(here / str(number))
    started = time.process_time()
    events = reader.drain()
    spent = time.process_time() - started
    created = [event.name for event in events if isinstance(event, Named) and event.op == Op.CREATED]
    assert created == [b"%d" % number for number in range(20_000)]
    assert spent / 20_000 < 30e-6, f"{spent / 20_000 * 1e6:.1f} us an event"


def test_a_btrfs_subvolume_mounted_by_itself() -> None:
    with loop_filesystem("btrfs") as top:
        run("btrfs", "subvolume", "create", str(top / "@"))
        run("btrfs", "subvolume", "create", str(top / "@data"))
        device = run("findmnt", "-n", "-o", "SOURCE", str(top)).strip()
        mountpoint = top.parent / "sub"
        mountpoint.mkdir()
        run("mount", "-o", "subvol=@", device, str(mountpoint))
        capture = FanotifyCapture()
        try:
            volume = volume_at(mountpoint, "btrfs")
            capture.start([volume], lambda _: False)
            reader = Reader(capture, volume)
            (top / "@data" / "foreign").touch()  # another subvolume, the same inode numbers: must not be mistaken
            (mountpoint / "ours").touch()
            assert [event[:4] for event in reader.drain()] == [
                (Op.CREATED, reader.oid(mountpoint), b"ours", reader.oid(mountpoint / "ours"))
            ]
        finally:
            capture.close()
            run("umount", str(mountpoint))


def test_two_volumes_keep_their_index() -> None:
    with loop_filesystem("ext4", 16) as one, loop_filesystem("ext4", 16) as two:
        capture = FanotifyCapture()
        volumes = [volume_at(one, "ext4", 3), volume_at(two, "ext4", 4)]
        capture.start(volumes, lambda _: False)
        try:
            (one / "a").touch()
            (two / "b").touch()
            events = named(Reader(capture, volumes[0]).drain())
            assert [(event[1], event[2]) for event in events] == [
                (Reader(capture, volumes[0]).oid(one), b"a"),
                (Reader(capture, volumes[1]).oid(two), b"b"),
            ]
        finally:
            capture.close()


def test_clones_of_one_file_system_are_refused() -> None:
    uuid = ("-U", "6b4c9c3a-52ab-4c11-b1a6-2c1e2ff6a5d1")
    with loop_filesystem("ext4", 16, uuid) as one, loop_filesystem("ext4", 16, uuid) as two:
        capture = FanotifyCapture()
        with pytest.raises(PreflightError, match="same file system id"):
            capture.start([volume_at(one, "ext4", 0), volume_at(two, "ext4", 1)], lambda _: False)


def test_a_file_system_without_handles_is_refused_with_a_remedy() -> None:
    capture = FanotifyCapture()
    with pytest.raises(PreflightError, match="use --capture inotify"):
        capture.start([volume_at(Path("/proc"), "proc")], lambda _: False)
    capture.close()


def test_a_volume_that_changed_meanwhile_is_refused(volume: WatchedVolume) -> None:
    with pytest.raises(PreflightError, match="not the volume"):
        FanotifyCapture().start([volume._replace(device=volume.device + 1)], lambda _: False)
