"""What mode `ebpf` is not for is refused by name, with an id that scripts can match."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from livelift.capture.choose import choose
from livelift.capture.ebpf.filesystems import check
from livelift.errors import UnfitFilesystemError
from livelift.ports import WatchedVolume


def volume(fstype: str, device: int = os.makedev(8, 1)) -> WatchedVolume:
    return WatchedVolume(0, b"/srv", fstype, device)


@pytest.mark.parametrize("fstype", ["ext4", "ext3", "xfs", "btrfs"])
def test_what_was_tried_is_taken(fstype: str, tmp_path: Path):
    check([volume(fstype)], str(tmp_path))


@pytest.mark.parametrize(
    ("fstype", "why"),
    [
        ("overlay", "file system below"),
        ("fuse.mergerfs", "a program"),
        ("fuseblk", "a program"),
        ("nfs4", "other machines"),
        ("f2fs", "has not been tried"),
        ("tmpfs", "has not been tried"),
    ],
)
def test_the_others_are_refused_with_the_reason(fstype: str, why: str, tmp_path: Path):
    with pytest.raises(UnfitFilesystemError, match=rf"/srv \({fstype}\): .*{why}") as refused:
        check([volume("ext4"), volume(fstype)], str(tmp_path))
    assert refused.value.code == "capture-filesystem" and "auto" in refused.value.remedy


@pytest.mark.parametrize("where", ["8:1/queue", "8:1/../queue"])
@pytest.mark.parametrize("dax", ["0", "1"])
def test_memory_as_a_disk_is_refused(where: str, dax: str, tmp_path: Path):
    (tmp_path / "dev/block/8:1").mkdir(parents=True)
    queue = tmp_path / "dev/block" / where
    queue.resolve().mkdir(parents=True, exist_ok=True)
    (queue / "dax").write_text(dax + "\n")
    if dax == "0":
        check([volume("xfs")], str(tmp_path))
    else:
        with pytest.raises(UnfitFilesystemError, match="DAX"):
            check([volume("xfs")], str(tmp_path))


def test_the_choice_tells_the_id():
    with pytest.raises(UnfitFilesystemError, match="ebpf: /srv"):
        choose([volume("overlay")], "ebpf")
