"""The reason for `repeats`, as an experiment: who follows the events ends with the names that the disk has.

The follower trusts a RENAMED or REMOVED that agrees with what it knows, and looks at the disk otherwise, as the merge
does. Without the second looks some 2 % of the rounds end wrong; the last test shows the shortest one.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.capture import fanotify
from livelift.capture.fanotify import FanotifyCapture
from livelift.model.entry import inode_of
from livelift.platform.linux.files import RENAME_EXCHANGE, renameat2
from livelift.ports import Event, Named, Op, WatchedVolume
from tests.capture.conftest import Reader

pytestmark = [pytest.mark.root, pytest.mark.parametrize("file_system", ["ext4", "tmpfs"], indirect=True)]

NAMES = (b"a", b"b", b"c")
Place = tuple[int, bytes]


class Follower:
    def __init__(self, reader: Reader, directories: list[Path]) -> None:
        self.directories = {reader.oid(path): bytes(path) for path in directories}
        self.known: dict[Place, int] = {}

    def disk(self, place: Place) -> int:
        try:
            return os.lstat(os.path.join(self.directories[place[0]], place[1])).st_ino
        except FileNotFoundError:
            return 0

    def look(self, place: Place) -> None:
        if inode := self.disk(place):
            self.known[place] = inode
        else:
            self.known.pop(place, None)

    def follow(self, events: list[Event]) -> None:
        named = [event for event in events if isinstance(event, Named) and event.parent in self.directories]
        for event in named:
            old, new, child = (event.parent, event.name), (event.new_parent, event.new_name), inode_of(event.child)
            if event.op is Op.REMOVED and self.known.get(old) == child:
                del self.known[old]
            elif event.op is Op.RENAMED and self.known.get(old) == child != self.known.get(new):
                self.known[new] = self.known.pop(old)
            else:
                self.look(old)
                if event.op is Op.RENAMED:
                    self.look(new)

    def wrong(self) -> list[Place]:
        places = [(parent, name) for parent in self.directories for name in NAMES]
        return [place for place in places if self.disk(place) != self.known.get(place, 0)]


Stage = tuple[Reader, Follower, list[bytes]]


def change(rng: random.Random, paths: list[bytes]) -> None:
    one, two = rng.sample(paths, 2)
    kind = rng.choice(("create", "link", "rename", "rename", "rename", "unlink", "exchange"))
    try:
        if kind == "create":
            os.mknod(one)
        elif kind == "link":
            os.link(one, two)
        elif kind == "rename":
            os.rename(one, two)
        elif kind == "unlink":
            os.unlink(one)
        else:
            renameat2(-100, one, -100, two, RENAME_EXCHANGE)
    except (FileExistsError, FileNotFoundError):
        pass  # a change that was none


@pytest.fixture(params=[fanotify.BUFFER, 2 * fanotify.LONGEST])
def stage(
    volume: WatchedVolume, here: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stage]:
    """With the small buffer most reads end before the queue is empty, so what was said first is in an earlier read."""
    monkeypatch.setattr(fanotify, "BUFFER", request.param)
    directories = [here / "one", here / "two"]
    for directory in directories:
        directory.mkdir()
    capture = FanotifyCapture()
    capture.start([volume], lambda _: False)
    reader = Reader(capture, volume)
    paths = [bytes(path / os.fsdecode(name)) for path in directories for name in NAMES]
    yield reader, Follower(reader, directories), paths
    capture.close()


def rounds(rng: random.Random, stage: Stage, number: int) -> int:
    """How many of the rounds ended with a wrong name. Reads come in between, as they do in life."""
    reader, follower, paths = stage
    failures = 0
    for _ in range(number):
        for _ in range(rng.randrange(1, 25)):
            change(rng, paths)
            if rng.random() < 0.05:
                follower.follow(reader.capture.read(0))
        follower.follow(reader.drain())
        if follower.wrong():
            failures += 1
            for place in follower.wrong():
                follower.look(place)
    return failures


def test_who_follows_the_events_ends_with_the_names_on_disk(rng: random.Random, stage: Stage) -> None:
    assert rounds(rng, stage, 500) == 0


def test_without_the_second_looks_it_does_not(stage: Stage) -> None:
    reader, follower, (a, b, *_) = stage
    os.mknod(a)
    follower.follow(reader.drain())
    for old, new in ((a, b), (b, a), (a, b)):
        os.rename(old, new)
    events = reader.drain()
    follower.follow([event for event in events if not (isinstance(event, Named) and event.op is Op.TOUCHED)])
    assert len(follower.wrong()) == 2
    follower.follow(events)
    assert follower.wrong() == []
