"""InotifyCapture on ext4, XFS, btrfs and tmpfs: pairs, watches, loss, and what it is blind to."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import livelift.capture.inotify as inotify
from livelift.capture.inotify import LIMIT, InotifyCapture
from livelift.platform.linux.inotify import MAX_QUEUED_EVENTS, watch_limit
from livelift.ports import Dirty, Event, Lost, Named, Op, Synced, WatchedVolume
from tests.capture.conftest import Reader

pytestmark = pytest.mark.root


@pytest.fixture
def reader(volume: WatchedVolume, here: Path) -> Iterator[Reader]:
    capture = InotifyCapture()
    capture.start([volume], lambda path: path.endswith(b"/ignored"))
    try:
        reader = Reader(capture, volume)
        watch(reader, here)
        yield reader
    finally:
        capture.close()


def watch(reader: Reader, path: Path) -> int:
    oid = reader.oid(path)
    reader.capture.watch_directory(oid, bytes(path))
    return oid


def plain(events: list[Event]) -> list[Event]:
    return [event._replace(time=0) for event in events if not isinstance(event, Synced)]


def test_create_write_attributes_remove(reader: Reader, here: Path) -> None:
    parent, file = reader.oid(here), here / "file"
    assert plain(reader.caused_by(lambda: file.write_bytes(b"x" * 9999))) == [
        Named(Op.CREATED, parent, b"file"),
        Dirty(0, True, parent, b"file"),
    ]
    assert plain(reader.caused_by(lambda: file.chmod(0o600))) == [Dirty(0, False, parent, b"file")]
    assert plain(reader.caused_by(lambda: os.truncate(file, 5))) == [Dirty(0, True, parent, b"file")]
    assert Named(Op.REMOVED, parent, b"file") in plain(reader.caused_by(file.unlink))
    assert plain(reader.caused_by(lambda: here.chmod(0o701))) == [Dirty(parent, False)]


def test_renames_across_directories_are_pairs(reader: Reader, here: Path) -> None:
    (here / "one").mkdir()
    (here / "two").mkdir()
    one, two = watch(reader, here / "one"), watch(reader, here / "two")
    (here / "one" / "a").touch()
    (here / "one" / "d").mkdir()
    moved = plain(
        reader.caused_by(
            lambda: [os.rename(here / "one" / name, here / "two" / f"{name}2") for name in ("a", "d")],
        )
    )
    assert moved == [
        Named(Op.RENAMED, one, b"a", 0, two, b"a2", False),
        Named(Op.RENAMED, one, b"d", 0, two, b"d2", True),
    ]


def test_half_a_rename_is_removed_or_touched(reader: Reader, here: Path) -> None:
    (here / "outside").mkdir()
    (here / "inside").mkdir()
    inside = watch(reader, here / "inside")
    (here / "inside" / "a").touch()
    away = reader.caused_by(lambda: os.rename(here / "inside" / "a", here / "outside" / "a"))
    assert plain(away) == [Named(Op.REMOVED, inside, b"a")]
    back = reader.caused_by(lambda: os.rename(here / "outside" / "a", here / "inside" / "a"))
    assert plain(back) == [Named(Op.TOUCHED, inside, b"a")]


def test_halves_that_come_in_two_reads_are_a_pair(reader: Reader, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A buffer that holds one event makes every read end between the halves."""
    reader.drain()
    assert isinstance(reader.capture, InotifyCapture) and reader.capture._queue is not None
    (here / "a").touch()
    reader.drain()
    monkeypatch.setattr(inotify, "PAIRING", 5.0)
    reader.capture._queue._size = 40
    os.rename(here / "a", here / "b")
    assert plain(reader.capture.read(1)) == [Named(Op.RENAMED, reader.oid(here), b"a", 0, reader.oid(here), b"b")]


def test_a_renamed_directory_keeps_its_watch(reader: Reader, here: Path) -> None:
    (here / "before").mkdir()
    oid = watch(reader, here / "before")
    (here / "before").rename(here / "after")
    reader.drain()
    assert plain(reader.caused_by((here / "after" / "x").touch))[0] == Named(Op.CREATED, oid, b"x")


def test_a_removed_directory_gives_its_watch_back(reader: Reader, here: Path) -> None:
    capture = reader.capture
    assert isinstance(capture, InotifyCapture)
    (here / "sub").mkdir()
    before = capture.watches()
    oid = watch(reader, here / "sub")
    assert capture.watches() == before + 1
    events = plain(reader.caused_by((here / "sub").rmdir))
    assert Named(Op.REMOVED, reader.oid(here), b"sub", is_dir=True) in events
    assert Dirty(oid, False) in events
    assert capture.watches() == before


def test_sync_is_in_order(reader: Reader, here: Path) -> None:
    reader.drain()
    for number in range(10):
        os.mknod(here / str(number))
        reader.capture.sync(100 + number)
    order: list[object] = []
    while 109 not in order:
        for event in reader.capture.read(1):
            order.append(event.token if isinstance(event, Synced) else getattr(event, "name", None))
    expected: list[object] = []
    for number in range(10):
        expected += [b"%d" % number, 100 + number]
    assert order == expected


def test_another_process_is_seen(reader: Reader, here: Path) -> None:
    events = plain(reader.caused_by(lambda: subprocess.run(["touch", here / "theirs"], check=True)))
    assert events[0] == Named(Op.CREATED, reader.oid(here), b"theirs")


def test_a_directory_that_is_not_there_is_lost_and_wakes_the_reader(reader: Reader, here: Path) -> None:
    reader.capture.watch_directory(reader.oid(here) + 1, bytes(here / "gone"))
    (lost,) = reader.capture.read(1)
    assert isinstance(lost, Lost) and (lost.oid, lost.volume) == (reader.oid(here) + 1, reader.volume.index)
    assert "No such file" in lost.reason


def test_another_directory_under_the_same_path_is_lost(reader: Reader, here: Path) -> None:
    (here / "sub").mkdir()
    reader.drain()
    reader.capture.watch_directory(reader.oid(here / "sub") + 1, bytes(here / "sub"))
    (lost,) = reader.capture.read(1)
    assert isinstance(lost, Lost) and "another directory" in lost.reason


def test_an_ignored_directory_gets_no_watch(reader: Reader, here: Path) -> None:
    (here / "ignored").mkdir()
    watch(reader, here / "ignored")
    assert reader.caused_by((here / "ignored" / "x").touch) == []


def test_the_limit_of_watches_is_lost_with_a_remedy(
    reader: Reader, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(instance: int, path: bytes, mask: int) -> int:
        raise OSError(28, "No space left on device")

    reader.drain()
    monkeypatch.setattr(inotify, "inotify_add_watch", full)
    oid = watch(reader, here)
    (lost,) = reader.capture.read(1)
    assert isinstance(lost, Lost) and (lost.oid, lost.reason) == (oid, LIMIT)


def test_watch_limit_is_a_number_of_this_machine() -> None:
    assert watch_limit() > 0


@pytest.mark.parametrize("file_system", ["tmpfs"], indirect=True)
def test_overflow_is_lost(reader: Reader, here: Path) -> None:
    limit = int(Path(MAX_QUEUED_EVENTS).read_text())
    if limit > 50_000:
        pytest.skip(f"fs.inotify.max_queued_events is {limit}: too many to fill here")
    reader.drain()
    for number in range(limit + 10):
        os.mknod(here / str(number))
    events: list[Event] = []
    while got := reader.capture.read(0):
        events += got
    assert [event[:3] for event in events if isinstance(event, Lost)] == [(0, -1, "queue overflow")]
    assert sum(isinstance(event, Named) for event in events) >= limit - 10


def test_a_change_through_a_link_in_an_unwatched_directory_is_not_seen(reader: Reader, here: Path) -> None:
    """This is what "hard-links-elsewhere" in `blind_to` says."""
    assert "hard-links-elsewhere" in InotifyCapture.blind_to
    (here / "elsewhere").mkdir()
    (here / "file").write_bytes(b"old")
    os.link(here / "file", here / "elsewhere" / "file")
    reader.drain()
    assert reader.caused_by(lambda: (here / "elsewhere" / "file").write_bytes(b"new")) == []
    assert (here / "file").read_bytes() == b"new"


def test_an_unmounted_volume_is_lost() -> None:
    from tests.capture.conftest import volume_at
    from tests.loopfs import loop_filesystem, run

    with loop_filesystem("ext4", 16) as path:
        capture = InotifyCapture()
        volume = volume_at(path, "ext4", 5)
        capture.start([volume], lambda _: False)
        try:
            reader = Reader(capture, volume)
            watch(reader, path)
            device = run("findmnt", "-n", "-o", "SOURCE", str(path)).strip()
            run("umount", str(path))
            events = reader.drain()
            assert [event[:3] for event in events if isinstance(event, Lost)] == [(0, 5, "unmounted")]
        finally:
            capture.close()
            run("mount", device, str(path))
