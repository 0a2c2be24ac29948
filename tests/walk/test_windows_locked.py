"""The ways around a locked file: their order, and what is said when none is open."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from livelift.errors import RetryError
from livelift.platform.windows import hives, vss
from livelift.walk.windows_locked import KEEP, LockedFileError, Place, Snapshots, by_the_first, hive_of

PLACE = Place("C:\\", "\\\\.\\C:", "\\data\\db", 42)
Chunks = Iterator[tuple[int, bytes]]


def gives(*chunks: tuple[int, bytes]) -> object:
    return lambda place: iter(chunks)


def refuses(error: Exception) -> object:
    def way(place: Place) -> Chunks:
        raise error
        yield

    return way


def test_the_first_way_that_is_open_is_taken() -> None:
    ways = (("one", refuses(OSError(13, "no"))), ("two", gives((0, b"a"), (5, b"b"))), ("three", gives((0, b"x"))))
    assert list(by_the_first(PLACE, ways)) == [(0, b"a"), (5, b"b")]


def test_an_empty_file_is_an_answer() -> None:
    assert list(by_the_first(PLACE, (("one", gives()), ("two", refuses(OSError(5, "never asked")))))) == []


def test_two_ways_are_never_mixed() -> None:
    def breaks(place: Place) -> Chunks:
        yield 0, b"a"
        raise RetryError("it changed")

    chunks = by_the_first(PLACE, (("one", breaks), ("two", gives((0, b"x")))))
    assert next(chunks) == (0, b"a")
    with pytest.raises(RetryError):
        next(chunks)


def test_when_none_is_open_all_say_why() -> None:
    ways = (("one", refuses(OSError(13, "denied"))), ("two", refuses(RetryError("no room"))))
    with pytest.raises(LockedFileError) as caught:
        list(by_the_first(PLACE, ways))
    assert "one: [Errno 13] denied; two: no room" in str(caught.value)
    assert "\\data\\db" in str(caught.value) and "what to do" in str(caught.value)


def test_a_hive_is_known_by_its_place() -> None:
    loaded = {
        "\\REGISTRY\\MACHINE\\SYSTEM": "\\Device\\HarddiskVolume2\\Windows\\System32\\config\\SYSTEM",
        "\\REGISTRY\\USER\\S-1-5-21-1": "\\Device\\HarddiskVolume2\\Users\\A\\NTUSER.DAT",
    }
    assert hive_of("\\windows\\SYSTEM32\\Config\\system", loaded) == "\\REGISTRY\\MACHINE\\SYSTEM"
    assert hive_of("\\Users\\A\\ntuser.dat", loaded) == "\\REGISTRY\\USER\\S-1-5-21-1"
    with pytest.raises(ValueError):
        hive_of("\\Windows\\System32\\config\\SYSTEM2", loaded)
    assert hives.split_registry_path("\\REGISTRY\\USER\\S-1-5-21-1") == (hives.USERS, "S-1-5-21-1")
    for wrong in ("HKLM\\SYSTEM", "\\REGISTRY\\MACHINE", "\\REGISTRY\\A\\X", "\\REGISTRY\\MACHINE\\"):
        with pytest.raises(ValueError):
            hives.split_registry_path(wrong)


SHADOW = vss.Snapshot("{01234567-89AB-CDEF-0123-456789ABCDEF}", "\\\\?\\GLOBALROOT\\Device\\HarddiskVolumeShadowCopy7")


def test_a_snapshot_is_used_again_until_it_is_old() -> None:
    now, made, deleted = [0.0], [], []

    def create(drive: str) -> vss.Snapshot:
        made.append(drive)
        return SHADOW._replace(device=f"{SHADOW.device}{len(made)}")

    snapshots = Snapshots(create, deleted.append, lambda: now[0])
    first = snapshots.of("C:\\")
    now[0] = KEEP - 1
    assert snapshots.of("C:\\") is first
    now[0] = KEEP + 1
    second = snapshots.of("C:\\")
    assert (made, deleted) == (["C:\\", "C:\\"], [first])
    snapshots.of("D:\\")
    snapshots.close()
    assert len(deleted) == 3 and second in deleted


def test_what_the_snapshot_command_answers() -> None:
    text = (
        '{"code":0,"id":"{01234567-89AB-CDEF-0123-456789ABCDEF}",'
        '"device":"\\\\\\\\?\\\\GLOBALROOT\\\\Device\\\\HarddiskVolumeShadowCopy7"}'
    )
    assert vss.parse_created(text) == SHADOW
    assert vss.path_in(SHADOW, "\\a\\b") == SHADOW.device + "\\a\\b"
    with pytest.raises(RetryError, match="not enough room"):
        vss.parse_created('{"code":12,"id":null,"device":null}')
    for wrong in ("[]", '{"code":0,"id":"x","device":"y"}', '{"code":"0"}'):
        with pytest.raises(ValueError):
            vss.parse_created(wrong)


def test_nothing_gets_into_the_command_but_a_mount_point() -> None:
    assert "Volume='C:\\'" in vss.create_command("C:\\")[-1]
    for wrong in ("C:", "C:\\'; rm", 'C:"\\'):
        with pytest.raises(ValueError):
            vss.create_command(wrong)
    assert vss.delete_command(SHADOW)[0] == "vssadmin.exe"
