"""Real, small runs of the harness: a copy by a peer, the observer of changes, a volume that starts from nothing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import changes, data
from benchmarks.copies import measure
from benchmarks.peers import RSYNC_DAEMON, TAR_ZSTD_SSH, Peer
from benchmarks.volumes import Volume

pytestmark = pytest.mark.root


def test_a_renewed_volume_is_empty_and_a_cooled_one_is_not(tmp_path: Path) -> None:
    with Volume(tmp_path, "disk", 32 * data.MIB, 1000) as volume:
        (volume.path / "file").write_bytes(b"content")
        volume.cool()
        assert (volume.path / "file").read_bytes() == b"content"
        volume.renew()
        assert not (volume.path / "file").exists()
        device = subprocess.run(["losetup", "-j", volume.image], capture_output=True, text=True, check=True).stdout
        assert device.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("peer", [RSYNC_DAEMON, TAR_ZSTD_SSH], ids=lambda peer: peer.name)
def test_a_peer_brings_everything_and_leaves_nothing_behind(peer: Peer, tmp_path: Path) -> None:
    for program in ("rsync", "sshd", "zstd", "tar"):
        if shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            pytest.skip(f"{program} is not installed")
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    data.many_files(source, 200, 1000)
    values = measure(peer, tmp_path, source, target, lambda: None)
    assert data.survey(source) == data.survey(target)
    assert data.survey(source)[1] == 200_000
    assert values["CPU s"] > 0 and values["wall s"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_data_sets_are_what_they_say(tmp_path: Path) -> None:
    for name, build in (("sparse", data.sparse_image), ("one", data.one_file)):
        (tmp_path / name).mkdir()
        build(tmp_path / name, True)
    image = (tmp_path / "sparse/disk.img").stat()
    assert image.st_size == data.GIB and image.st_blocks * 512 < 25 * data.MIB
    assert (tmp_path / "one/database").stat().st_size == 64 * data.MIB


def test_the_observer_sees_a_target_that_is_the_source_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes.prepare(tmp_path / "tree", 2)
    values = changes.observe(tmp_path / "tree", tmp_path / "tree", 2)
    assert values["lag p50 ms"] < 50 and values["converged after s"] < 1
    assert values["changes/s"] > 500


def test_the_observer_gives_up_on_a_target_that_never_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "PATIENCE", 0.5)
    changes.prepare(tmp_path / "one", 1)
    changes.prepare(tmp_path / "two", 1)
    with pytest.raises(RuntimeError, match="never arrived"):
        changes.observe(tmp_path / "one", tmp_path / "two", 1)
