"""Volumes for the captures: real file systems, made once for each test module."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from livelift.model.entry import object_id
from livelift.ports import Capture, Event, Synced, WatchedVolume
from tests.loopfs import loop_filesystem, unmount

FSTYPES = ("ext4", "xfs", "btrfs", "tmpfs")


def volume_at(path: Path, fstype: str, index: int = 1) -> WatchedVolume:
    return WatchedVolume(index, os.fsencode(path), fstype, os.stat(path).st_dev)


@contextmanager
def _memory() -> Iterator[Path]:
    """Of its own where that is allowed: what others do in /dev/shm is reported as well."""
    if os.geteuid():
        yield Path("/dev/shm")
        return
    with tempfile.TemporaryDirectory(prefix="livelift-capture-") as name:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "livelift", name], check=True)
        try:
            yield Path(name)
        finally:
            unmount(Path(name))


@pytest.fixture(scope="module", params=FSTYPES)
def file_system(request: pytest.FixtureRequest) -> Iterator[WatchedVolume]:
    with ExitStack() as undo:
        if request.param == "tmpfs":
            mountpoint = undo.enter_context(_memory())
        else:
            mountpoint = undo.enter_context(loop_filesystem(request.param))
        yield volume_at(mountpoint, request.param)


@pytest.fixture
def volume(file_system: WatchedVolume) -> WatchedVolume:
    return file_system


@pytest.fixture
def here(volume: WatchedVolume) -> Iterator[Path]:
    """A fresh directory on the volume."""
    path = Path(tempfile.mkdtemp(prefix="livelift-", dir=os.fsdecode(volume.mountpoint)))
    yield path
    shutil.rmtree(path, ignore_errors=True)


class Reader:
    """Runs changes and answers which events they caused, below one directory only (others may use the volume)."""

    def __init__(self, capture: Capture, volume: WatchedVolume) -> None:
        self.capture = capture
        self.volume = volume
        self.token = 0

    def oid(self, path: Path | str) -> int:
        return object_id(self.volume.index, os.lstat(path).st_ino)

    def drain(self) -> list[Event]:
        """Everything up to a sync mark that is set now."""
        self.token += 1
        self.capture.sync(self.token)
        events: list[Event] = []
        deadline = time.monotonic() + 10
        while Synced(self.token) not in events:
            assert time.monotonic() < deadline, f"no Synced({self.token}); events: {events[-5:]}"
            events += self.capture.read(0.2)
        return [event for event in events if not isinstance(event, Synced)]

    def caused_by(self, change: Callable[[], object]) -> list[Event]:
        self.drain()
        change()
        return self.drain()
