"""The canary tells the truth about both modes on real file systems, and leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from livelift.capture.canary import OPERATIONS, sing
from livelift.capture.fanotify import FanotifyCapture
from livelift.capture.inotify import InotifyCapture
from livelift.ports import Event, Named, Op, WatchedVolume
from tests.capture.conftest import volume_at
from tests.loopfs import loop_filesystem

pytestmark = pytest.mark.root


@pytest.mark.parametrize("make", [FanotifyCapture, InotifyCapture])
def test_all_but_the_blind_spots_are_seen(
    volume: WatchedVolume, here: Path, make: Callable[[], FanotifyCapture | InotifyCapture]
) -> None:
    report = sing(make(), volume, bytes(here))
    untried = {name for name, _ in report.not_tried}
    assert report.missed - untried <= {"mmap", "inode-flags"}
    assert "mmap" in report.missed
    assert report.seen >= OPERATIONS.keys() - {"mmap", "inode-flags"} - untried
    assert report.seen | report.missed | untried == OPERATIONS.keys()
    if volume.fstype in ("ext4", "xfs", "btrfs"):
        assert untried == set() and "inode-flags" in report.missed
    assert os.listdir(here) == []


def test_a_mode_that_loses_an_operation_is_caught(volume: WatchedVolume, here: Path) -> None:
    class NoRmdir(FanotifyCapture):
        def read(self, timeout: float) -> list[Event]:
            return [
                event
                for event in super().read(timeout)
                if not (isinstance(event, Named) and event.op == Op.REMOVED and event.is_dir)
            ]

    assert "rmdir" in sing(NoRmdir(), volume, bytes(here)).missed


def test_a_volume_that_cannot_be_written_is_not_tried_and_not_changed() -> None:
    with loop_filesystem("ext4", 16, mount_options="ro") as path:
        report = sing(FanotifyCapture(), volume_at(path, "ext4"))
        assert report.seen == report.missed == frozenset()
        assert dict(report.not_tried)["create"] == "Read-only file system"
        assert len(report.not_tried) == len(OPERATIONS)


def test_the_scratch_directory_goes_even_if_the_capture_fails(volume: WatchedVolume, here: Path) -> None:
    class Broken(FanotifyCapture):
        def read(self, timeout: float) -> list[Event]:
            raise OSError(5, "broken")

    with pytest.raises(OSError, match="broken"):
        sing(Broken(), volume, bytes(here))
    assert os.listdir(here) == []
