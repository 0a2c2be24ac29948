"""What the check says of a file system that mode `ebpf` is not for, on real mounts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from livelift.model.job import Map
from livelift.source.checks import preflight
from tests.loopfs import loop_filesystem, run, unmount
from tests.ntfsfs import NtfsImage, make_ntfs

pytestmark = pytest.mark.root


@contextmanager
def overlay(work: Path) -> Iterator[Path]:
    with loop_filesystem("ext4") as disk:
        for name in ("lower", "upper", "work", "merged"):
            (disk / name).mkdir()
        layers = f"lowerdir={disk}/lower,upperdir={disk}/upper,workdir={disk}/work"
        run("mount", "-t", "overlay", "overlay", "-o", layers, str(disk / "merged"))
        try:
            yield disk / "merged"
        finally:
            unmount(disk / "merged")


@contextmanager
def fuse(work: Path) -> Iterator[Path]:
    """On a disk: one without is no file system that can be moved."""
    volume = make_ntfs(work)
    device = run("losetup", "--find", "--show", str(volume.image)).strip()
    try:
        with NtfsImage(Path(device)).mounted() as path:
            yield path
    finally:
        run("losetup", "--detach", device)


@pytest.mark.parametrize(("made", "fstype"), [(overlay, "overlay"), (fuse, "fuseblk")])
def test_mode_ebpf_is_refused_by_name_and_another_is_found(made, fstype: str, tmp_path: Path) -> None:
    with made(tmp_path) as path:
        maps = (Map(os.fsencode(path), b"/replica"),)
        (finding,) = preflight(maps, bytes(tmp_path / "state"), "ebpf").inhibitors
        assert finding.id == "capture-filesystem" and f"{path} ({fstype}): " in finding.diagnosis
        assert "--capture auto" in finding.remedy
        assert preflight(maps, bytes(tmp_path / "state"), "auto").inhibitors == []
