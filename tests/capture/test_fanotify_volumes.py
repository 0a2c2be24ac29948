"""Keys to object ids: known layouts, unknown ones by opening the handle, own objects, and a bounded cache."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.capture import fanotify_volumes
from livelift.capture.fanotify_volumes import ObjectIds, fsid_of
from livelift.model.entry import object_id
from livelift.platform.linux.handles import EMPTY_PATH, handle_of
from livelift.ports import WatchedVolume

pytestmark = pytest.mark.root


@pytest.fixture
def oids() -> Iterator[ObjectIds]:
    oids = ObjectIds()
    yield oids
    oids.close()


def add(oids: ObjectIds, volume: WatchedVolume) -> None:
    fd = os.open(volume.mountpoint, os.O_RDONLY)
    try:
        oids.add(volume, fd, fsid_of(fd), handle_of(fd, b"", EMPTY_PATH)[0])
    finally:
        os.close(fd)


def key_of(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        handle = handle_of(fd, b"", EMPTY_PATH)[0]
        return fsid_of(fd) + struct.pack("=I", len(handle) - 4) + handle
    finally:
        os.close(fd)


@pytest.mark.parametrize("readable", [True, False])
def test_a_key_leads_to_the_object(
    oids: ObjectIds, volume: WatchedVolume, here: Path, readable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not readable:  # as on a file system whose handles nobody has described to us
        monkeypatch.setattr(fanotify_volumes, "inode_of_handle", lambda _: None)
    add(oids, volume)
    file = here / "file"
    file.touch()
    key = key_of(file)
    assert oids[key] == object_id(volume.index, file.stat().st_ino)
    assert oids[key_of(here)] == object_id(volume.index, here.stat().st_ino)
    oids.clear()
    file.unlink()
    os.sync()
    assert oids[key] == (object_id(volume.index, _inode(key, volume)) if readable else 0)


def _inode(key: bytes, volume: WatchedVolume) -> int:
    from livelift.platform.linux.handles import inode_of_handle

    known = inode_of_handle(key[12:])
    assert known is not None, volume.fstype
    return known[0]


def test_an_unknown_file_system_is_zero(oids: ObjectIds, volume: WatchedVolume, here: Path) -> None:
    assert oids[key_of(here)] == 0
    add(oids, volume)
    assert oids[b"elsewhere" + key_of(here)[9:]] == 0


def test_own_objects_survive_the_cache(
    oids: ObjectIds, volume: WatchedVolume, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanotify_volumes, "CACHE", 4)
    file = os.memfd_create("test")
    try:
        oids.add_own(file, -7)
        handle = handle_of(file, b"", EMPTY_PATH)[0]
        key = fsid_of(file) + struct.pack("=I", len(handle) - 4) + handle
        add(oids, volume)
        assert oids[key] == -7
        for number in range(10):
            (here / str(number)).touch()
            assert oids[key_of(here / str(number))] > 0
            assert len(oids) <= 4
        assert oids[key] == -7
    finally:
        os.close(file)


def test_no_open_file_keeps_a_volume_from_being_unmounted(oids: ObjectIds, volume: WatchedVolume) -> None:
    before = set(os.listdir("/proc/self/fd"))
    add(oids, volume)
    assert len(set(os.listdir("/proc/self/fd"))) == len(before)
