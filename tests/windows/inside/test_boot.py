"""What is left for the next boot, and what only a real kernel says of a hive."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from livelift.platform.windows import hives, moves, vss
from livelift.platform.windows.volumes import volume_of
from livelift.walk import windows_locked as locked


def test_pending_renames_are_read_back_as_they_were_asked_for(tmp_path: Path) -> None:
    """Nothing is left to do for the boot: the files are gone by then, and a rename of what is not there is skipped."""
    old, new = tmp_path / "old file", tmp_path / "new file"
    old.write_bytes(b"x")
    before = moves.pending()
    moves.at_boot(str(old), str(new))
    moves.at_boot(str(old), "")
    added = moves.pending()[len(before) :]
    assert added == [moves.PendingMove(str(old), str(new), True), moves.PendingMove(str(old), "", False)]


def test_a_volume_tells_what_it_is(tmp_path: Path) -> None:
    found = volume_of(str(tmp_path))
    assert str(tmp_path).upper().startswith(found.mountpoint.upper())
    assert found.filesystem == "NTFS"
    assert found.device.startswith("\\\\")


@pytest.mark.real("RegSaveKeyEx answers rc 6, RegLoadKey 1017 to a real hive")
def test_the_system_saves_and_loads_its_own_hive(tmp_path: Path) -> None:
    path = str(tmp_path / "SYSTEM")
    hives.save("\\REGISTRY\\MACHINE\\SYSTEM", path)
    assert Path(path).read_bytes()[:4] == b"regf"
    hives.validate(path, "LiveliftTest")
    broken = tmp_path / "broken"
    broken.write_bytes(b"regf" + bytes(8192))
    with pytest.raises(OSError):
        hives.validate(str(broken), "LiveliftTest")


@pytest.mark.real("its list of hives is empty")
def test_the_hives_of_the_machine_are_listed() -> None:
    loaded = hives.loaded()
    assert any(path.casefold().endswith("\\config\\system") for path in loaded.values())
    assert locked.hive_of("\\Windows\\System32\\config\\SYSTEM", loaded).upper().endswith("SYSTEM")


@pytest.mark.real("drive C: is a directory of the host")
def test_sectors_give_what_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "big"
    content = b"".join(n.to_bytes(4, "little") for n in range(500_000))
    path.write_bytes(content)
    volume = volume_of(str(path))
    place = locked.Place(volume.mountpoint, volume.device, str(path)[2:], path.stat().st_ino)
    found = bytearray(len(content))
    for offset, data in locked.from_sectors(place):
        found[offset : offset + len(data)] = data
    assert bytes(found) == content


@pytest.mark.real("it has no volume snapshots")
@pytest.mark.long
def test_a_snapshot_holds_the_file(tmp_path: Path) -> None:
    path = tmp_path / "held"
    path.write_bytes(b"content")
    volume = volume_of(str(path))
    snapshots = locked.Snapshots()
    try:
        shutil.copy(vss.path_in(snapshots.of(volume.mountpoint), str(path)[2:]), tmp_path / "copy")
    finally:
        snapshots.close()
    assert (tmp_path / "copy").read_bytes() == b"content"
