"""Letters follow the data."""

from __future__ import annotations

import pytest

from livelift.adapt.windows.bench import Bench, Choices
from livelift.adapt.windows.mounted_devices import RULE, letters
from livelift.adapt.windows.system import System
from livelift.registry.values import BINARY
from tests.adapt.windows.machine import NTFS_C, SOURCE_C, findings, pair, run

GPT = b"DMIO:ID:" + bytes(range(16))
OPTICAL = "\\??\\SCSI#CdRom#1".encode("utf-16-le")


def merged(bench: Bench) -> dict[str, bytes]:
    return letters(System(bench.merged, bench.source.files, bench.source.version))


def test_the_system_letter_needs_no_telling() -> None:
    assert merged(run(RULE, *pair())) == {"C": NTFS_C}


def test_another_disk_volume_must_be_told() -> None:
    source, target = pair()
    source.letter("E", SOURCE_C[:11] + b"\1")
    target.letter("D", GPT)
    bench = run(RULE, source, target)
    assert findings(bench) == ["letter-unmapped-e"]
    told = run(RULE, source, target, Choices(letters={"E:": "d"}))
    assert merged(told) == {"C": NTFS_C, "E": GPT} and findings(told) == []
    given_up = run(RULE, source, target, Choices(letters={"E": None}))
    assert merged(given_up) == {"C": NTFS_C, "D": GPT} and findings(given_up) == []


def test_optical_drives_and_volume_names_are_the_targets() -> None:
    source, target = pair()
    source.letter("D", OPTICAL + b"old")
    target.letter("F", OPTICAL)
    target.root.make("MountedDevices").set("\\??\\Volume{1}", BINARY, NTFS_C)
    bench = run(RULE, source, target)
    assert merged(bench) == {"C": NTFS_C, "F": OPTICAL} and findings(bench) == []


def test_a_letter_that_both_use_for_different_volumes_is_told() -> None:
    source, target = pair()
    source.letter("D", bytes(12))
    target.letter("D", GPT)
    target.letter("E", b"DMIO:ID:" + bytes(16))
    bench = run(RULE, source, target, Choices(letters={"D": "E"}))
    assert merged(bench) == {"C": NTFS_C, "D": b"DMIO:ID:" + bytes(16)}
    assert findings(bench) == ["letter-taken"]


@pytest.mark.parametrize(("to", "id"), [("X", "letter-unknown-d"), ("F", "letter-removable-d")])
def test_a_letter_of_no_disk_volume_is_refused(to: str, id: str) -> None:
    source, target = pair()
    source.letter("D", bytes(12))
    target.letter("F", OPTICAL)
    assert findings(run(RULE, source, target, Choices(letters={"D": to}))) == [id]


def test_letters_may_be_exchanged() -> None:
    source, target = pair()
    source.letter("D", bytes(12))
    source.letter("E", bytes(11) + b"\1")
    target.letter("D", GPT)
    target.letter("E", b"DMIO:ID:" + bytes(16))
    bench = run(RULE, source, target, Choices(letters={"D": "E", "E": "D"}))
    assert merged(bench) == {"C": NTFS_C, "D": b"DMIO:ID:" + bytes(16), "E": GPT}
    assert findings(bench) == []


def test_volumes_that_may_be_mounted_at_folders_are_told() -> None:
    source, target = pair()
    mounted = source.root.make("MountedDevices")
    mounted.set("\\??\\Volume{1}", BINARY, SOURCE_C)
    mounted.set("\\??\\Volume{2}", BINARY, GPT)
    mounted.set("\\??\\Volume{3}", BINARY, OPTICAL)
    bench = run(RULE, source, target)
    assert findings(bench) == ["volumes-without-letter"]
    assert "knows 1 disk volumes" in bench.draft.plan("").findings[0].diagnosis
