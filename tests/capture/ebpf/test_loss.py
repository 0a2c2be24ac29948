"""A full ring loses nothing in silence: every file with a dropped record is named, or everything is.

In both modes, where the kernel lets them load; test_machines.py runs this file in a virtual machine.
"""

from __future__ import annotations

import os
import random
from functools import partial
from pathlib import Path

import pytest

from livelift.capture.ebpf.capture import EbpfSyscallCapture
from livelift.capture.ebpf.inorder import EbpfFexitCapture
from livelift.model.entry import object_id
from livelift.model.record import Make, Unlink
from livelift.ports import Event, Exact, Lost, WatchedVolume
from tests.capture.conftest import Reader
from tests.capture.ebpf.conftest import EbpfCapture, started

pytestmark = pytest.mark.root

PAGE = os.sysconf("SC_PAGE_SIZE")

modes = pytest.mark.parametrize("mode", [EbpfSyscallCapture, EbpfFexitCapture], ids=lambda mode: mode.name)


def told(events: list[Event]) -> set[tuple[int, int]]:
    """(object, offset) of everything that came as content."""
    return {(e.record.body.oid, e.record.body.offset) for e in events if isinstance(e, Exact)}


@modes
@pytest.mark.parametrize("forced", [10_000, pytest.param(200_000, marks=pytest.mark.long)])
@pytest.mark.timeout(900)
def test_no_silent_loss(
    volume: WatchedVolume, here: Path, rng: random.Random, forced: int, mode: type[EbpfCapture]
) -> None:
    """Writes of which most find no room: each is told, or its file is named after it happened."""
    capture = started(mode(ring=2 * PAGE), volume)
    try:
        reader = Reader(capture, volume)
        files = [os.open(here / f"file-{n}", os.O_RDWR | os.O_CREAT) for n in range(50)]
        oids = [object_id(volume.index, os.fstat(fd).st_ino) for fd in files]
        reader.drain()
        expected: set[tuple[int, int]] = set()

        def burst(first: int) -> None:
            for offset in range(first, first + 500):  # each write has an offset of its own, so that it can be missed
                n = rng.randrange(len(files))
                os.pwrite(files[n], b"x" * rng.choice((1, 100, 4000)), offset)
                expected.add((oids[n], offset))

        writes = losses = 0
        while losses < forced:
            expected.clear()
            events = reader.caused_by(partial(burst, writes))
            missing = expected - told(events)
            assert {oid for oid, _ in missing} <= {e.oid for e in events if isinstance(e, Lost)}, "a silent loss"
            losses += len(missing)
            writes += 500
            assert writes < 10 * forced, "the ring was not small enough to lose anything"
        print(f"{mode.name}, {volume.fstype}: {losses} of {writes} writes found no room, 0 were lost in silence")
        for fd in files:
            os.close(fd)
    finally:
        capture.close()


@pytest.mark.timeout(900)
def test_no_silent_loss_of_names(volume: WatchedVolume, here: Path, rng: random.Random) -> None:
    """A name that came or went is told, or its directory is named."""
    capture = started(EbpfFexitCapture(ring=PAGE), volume)
    try:
        reader = Reader(capture, volume)
        places = [here / f"place-{n}" for n in range(20)]
        for place in places:
            place.mkdir()
        oids = {place: reader.oid(place) for place in places}
        expected: set[tuple[str, int, bytes]] = set()

        def burst(first: int) -> None:
            for n in range(first, first + 100):
                place = rng.choice(places)
                path = place / f"name-{n}"
                path.touch()
                expected.add(("Make", oids[place], path.name.encode()))
                if rng.randrange(2):
                    path.unlink()
                    expected.add(("Unlink", oids[place], path.name.encode()))

        bursts = losses = 0
        while losses < 1000:
            expected.clear()
            events = reader.caused_by(partial(burst, 100 * bursts))
            bodies = [e.record.body for e in events if isinstance(e, Exact)]
            seen = {(type(b).__name__, b.parent, bytes(b.name)) for b in bodies if isinstance(b, Make | Unlink)}
            named = {e.oid for e in events if isinstance(e, Lost)}
            missing = expected - seen
            assert 0 in named or {parent for _, parent, _ in missing} <= named, "a silent loss"
            losses += len(missing)
            bursts += 1
            assert bursts < 1000, "the ring was not small enough to lose anything"
        print(f"{volume.fstype}: {losses} names found no room, 0 were lost in silence")
    finally:
        capture.close()


@modes
def test_too_many_files_to_name_is_everything(volume: WatchedVolume, here: Path, mode: type[EbpfCapture]) -> None:
    capture = started(mode(ring=PAGE, lost=16), volume)
    try:
        reader = Reader(capture, volume)

        def many() -> None:
            for n in range(400):
                (here / f"file-{n}").write_bytes(b"x" * 3000)

        lost = [e for e in reader.caused_by(many) if isinstance(e, Lost)]
        assert any(e.oid == 0 and e.volume == -1 for e in lost)
        # And it goes on: what is written afterwards is told, nothing old is named again.
        fd = os.open(here / "after", os.O_RDWR | os.O_CREAT)
        events = reader.caused_by(lambda: os.pwrite(fd, b"after", 0))
        assert not [e for e in events if isinstance(e, Lost)]
        assert told(events) == {(object_id(volume.index, os.fstat(fd).st_ino), 0)}
        os.close(fd)
    finally:
        capture.close()


@modes
def test_a_loss_is_told_before_the_mark_that_follows_it(
    volume: WatchedVolume, here: Path, mode: type[EbpfCapture]
) -> None:
    """A drain that ends with its mark has seen every loss before it: `Reader.drain` reads no further than the mark."""
    capture = started(mode(ring=PAGE), volume)
    try:
        reader = Reader(capture, volume)
        path = here / "file"
        path.write_bytes(b"")
        reader.drain()
        for _ in range(50):
            events = reader.caused_by(lambda: path.write_bytes(b"x" * 5000))
            times = 2 if mode is EbpfFexitCapture else 1  # said again behind what was in the ring
            assert [e.oid for e in events if isinstance(e, Lost)] == [reader.oid(path)] * times
    finally:
        capture.close()
