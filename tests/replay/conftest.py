"""Places to replay into: a plain directory for everybody, real file systems on loop devices for root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from livelift.model.job import Map
from livelift.replay.replayer import Replayer
from tests.loopfs import loop_filesystem
from tests.replay.logbook import Logbook


class Place:
    """A replica that is opened and opened again, and the log that goes into it."""

    def __init__(self, state: Path, *tops: Path, workers: int = 2) -> None:
        self.state = bytes(state)
        self.maps = [Map(b"/source", bytes(top)) for top in tops]
        self.top = self.maps[0].target
        self.workers = workers
        self.log = Logbook(len(tops))
        self.replayer = Replayer(self.state, self.maps, workers)

    def path(self, name: bytes) -> bytes:
        return self.top + b"/" + name

    def apply(self) -> None:
        """Apply what is new in the log; nothing may go wrong."""
        result = self.replayer.apply(self.log.take())
        assert result.conflicts == []
        assert result.problems == []
        assert result.applied_lsn == len(self.log.records)

    def crash(self) -> None:
        self.replayer.close()
        self.replayer = Replayer(self.state, self.maps, self.workers)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "replica").mkdir()
    made = Place(tmp_path / "state", tmp_path / "replica")
    yield made
    made.replayer.close()


@pytest.fixture(scope="session")
def ext4_mount() -> Iterator[Path]:
    with loop_filesystem("ext4", 96) as mountpoint:
        yield mountpoint


@pytest.fixture
def ext4(tmp_path: Path, ext4_mount: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    top = ext4_mount / f"replica-{abs(hash(request.node.name)):x}"
    top.mkdir()
    made = Place(tmp_path / "state", top)
    yield made
    made.replayer.close()
