"""Captures on a real file system: every change is reported, with the directory that the log knows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from livelift.capture.windows_choose import choose, sing
from livelift.capture.windows_usn import UsnCapture
from livelift.capture.windows_watch import WatchCapture
from livelift.errors import PreflightError
from livelift.model.entry import object_id
from livelift.platform.windows import files, posix
from livelift.ports import Capture, Dirty, Event, Lost, Named, Op, Synced, WatchedVolume


class Stage:
    def __init__(self, capture: Capture, top: Path) -> None:
        self.capture, self.top = capture, top
        self.token = 0
        self.learn("")

    def learn(self, path: str) -> int:
        fd = posix.open(str(self.top / path), posix.O_DIRECTORY)
        oid = object_id(0, posix.fstat(fd).st_ino)
        self.capture.watch_directory(oid, b"/proc/self/fd/%d" % fd)
        posix.close(fd)
        return oid

    def after(self, act: Callable[[], object]) -> list[Event]:
        act()
        events: list[Event] = []
        for _ in range(3):  # Wine tells a moment later
            time.sleep(0.05)
            self.token += 1
            self.capture.sync(self.token)
            deadline = time.monotonic() + 5
            while Synced(self.token) not in events and time.monotonic() < deadline:
                events += self.capture.read(0.2)
            assert Synced(self.token) in events
        return [event for event in events if not isinstance(event, Synced)]


@pytest.fixture(params=["watch", pytest.param("usn", marks=pytest.mark.real("it has no USN journal"))])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / "top" / "sub").mkdir(parents=True)
    capture: Capture = WatchCapture() if request.param == "watch" else UsnCapture()
    capture.start([WatchedVolume(0, os.fsencode(tmp_path / "top"), "ntfs", 0)], lambda _: False)
    yield Stage(capture, tmp_path / "top")
    capture.close()


def names(events: list[Event]) -> set[tuple[Op, int, bytes]]:
    return {(event.op, event.parent, event.name) for event in events if isinstance(event, Named)}


def test_files_made_changed_renamed_and_removed(stage: Stage) -> None:
    top, sub = stage.learn(""), stage.learn("sub")
    events = stage.after(lambda: (stage.top / "sub" / "Ünï").write_bytes(b"x"))
    name = "Ünï".encode()
    assert (Op.CREATED, sub, name) in names(events)
    events = stage.after(lambda: (stage.top / "sub" / "Ünï").write_bytes(b"longer"))
    assert any(isinstance(e, Dirty) and e.content and (e.parent, e.name) == (sub, name) for e in events)
    events = stage.after(lambda: (stage.top / "sub" / "Ünï").rename(stage.top / "b"))
    (renamed,) = (e for e in events if isinstance(e, Named) and e.op is Op.RENAMED)
    assert (renamed.parent, renamed.name, renamed.new_parent, renamed.new_name) == (sub, name, top, b"b")
    events = stage.after((stage.top / "b").unlink)
    assert (Op.REMOVED, top, b"b") in names(events)


def test_a_directory_keeps_its_object_when_it_is_renamed(stage: Stage) -> None:
    sub = stage.learn("sub")
    events = stage.after(lambda: (stage.top / "sub").rename(stage.top / "moved"))
    (renamed,) = (e for e in events if isinstance(e, Named) and e.op is Op.RENAMED)
    assert renamed.is_dir and renamed.new_name == b"moved"
    events = stage.after(lambda: (stage.top / "moved" / "new").write_bytes(b"x"))
    assert (Op.CREATED, sub, b"new") in names(events)


def test_a_thousand_files_are_all_reported_or_said_to_be_lost(stage: Stage) -> None:
    top = stage.learn("")

    def act() -> None:
        for n in range(1000):
            (stage.top / f"file {n}").write_bytes(b"x")

    events = stage.after(act)
    if not any(isinstance(event, Lost) for event in events):
        assert {(Op.CREATED, top, b"file %d" % n) for n in range(1000)} <= names(events)


def test_the_canary_sings_and_leaves_nothing_behind(tmp_path: Path) -> None:
    volume = WatchedVolume(0, os.fsencode(tmp_path), "ntfs", 0)
    assert sing(WatchCapture(), volume) == set()
    capture, choice = choose([volume])
    capture.close()
    assert choice.name in ("usn", "watch")
    assert os.listdir(tmp_path) == []
    with pytest.raises(PreflightError):
        choose([volume], "fanotify")


@pytest.mark.real("it has no USN journal")
def test_a_file_that_stays_open_is_marked_until_it_is_closed(tmp_path: Path) -> None:
    capture = UsnCapture()
    capture.start([WatchedVolume(0, os.fsencode(tmp_path), "ntfs", 0)], lambda _: False)
    stage = Stage(capture, tmp_path)
    handle = files.open_path(str(tmp_path / "database"), files.GENERIC_READ | files.GENERIC_WRITE, 4)
    fd = posix.dll.open_descriptor(handle, 0)
    oid = object_id(0, posix.fstat(fd).st_ino)
    for n in range(3):
        events = stage.after(lambda n=n: posix.pwrite(fd, b"page", n * 4096))  # type: ignore[misc]
        assert any(isinstance(e, Dirty) and e.oid == oid for e in events)
    posix.close(fd)
    stage.after(lambda: None)
    assert not any(isinstance(e, Dirty) and e.oid == oid for e in stage.after(lambda: None))
    capture.close()
