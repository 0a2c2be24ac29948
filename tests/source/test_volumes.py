from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from livelift.errors import PreflightError
from livelift.facts.mountinfo import Mount, parse_mountinfo
from livelift.facts.mounts import MountTable
from livelift.model.entry import object_id
from livelift.model.job import Map
from livelift.source import volumes as module
from livelift.source.volumes import find_volumes
from tests.loopfs import loop_filesystem, run


def maps(*paths: Path) -> list[Map]:
    return [Map(os.fsencode(path), b"/r%d" % number) for number, path in enumerate(paths)]


def test_memory_only_file_systems_cannot_be_moved():
    with pytest.raises(PreflightError, match="/proc cannot be moved"):
        find_volumes(maps(Path("/proc")), [])


@pytest.mark.parametrize(
    ("fstype", "why"),
    [(b"nfs4", "network file system"), (b"9p", "network file system"), (b"fuse.mergerfs", "a program's")],
)
def test_what_other_machines_or_programs_hold_cannot_be_moved(monkeypatch, tmp_path, fstype, why):
    """In any mode of capture."""
    mounts = parse_mountinfo(Path("/proc/self/mountinfo").read_bytes())
    here = MountTable(mounts).find(bytes(tmp_path))
    assert here is not None
    other = Mount(1 << 30, here.mount_id, (0, 999), b"/", bytes(tmp_path), fstype, b"nas:/export", (), ())
    monkeypatch.setattr(module, "parse_mountinfo", lambda data: [*mounts, other])
    with pytest.raises(PreflightError, match=f"{tmp_path} cannot be moved: {why}"):
        find_volumes(maps(tmp_path), [])


@pytest.mark.root
def test_volumes_mounts_below_and_own_directories():
    with loop_filesystem("ext4", 16) as disk:
        for name in ("mem", "state", "d"):
            (disk / name).mkdir()
        run("mount", "-t", "tmpfs", "none", str(disk / "mem"))
        try:
            found = find_volumes(maps(disk), [os.fsencode(disk / "state"), b"/elsewhere"])
        finally:
            subprocess.run(["umount", str(disk / "mem")], check=True)
        device, top = os.stat(disk).st_dev, object_id(0, os.stat(disk).st_ino)
        assert found.by_device == {device: 0}
        assert {name for _, name in found.left_out} == {b"mem", b"state"}
        assert {parent for parent, _ in found.left_out} == {top}
        assert "own" in found.left_out[top, b"state"]
        (watched,) = found.watched()
        assert (watched.index, watched.fstype, watched.device) == (0, "ext4", device)
        (record,) = found.records()
        assert (record.index, record.fstype, record.mountpoint) == (0, "ext4", os.fsencode(disk))


@pytest.mark.root
def test_two_file_systems_get_two_indices():
    with loop_filesystem("ext4", 16) as one, loop_filesystem("ext4", 16) as two:
        found = find_volumes(maps(one, two), [])
        assert sorted(found.by_device.values()) == [0, 1]
        assert {w.mountpoint for w in found.watched()} == {os.fsencode(one), os.fsencode(two)}
