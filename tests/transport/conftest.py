from __future__ import annotations

import datetime
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from livelift.identity.ca import Authority, create_authority
from livelift.identity.trust import Trust, issue
from livelift.protocol.messages import Hello, Welcome
from livelift.transport.channel import Channel, Options
from livelift.transport.client import connect
from livelift.transport.server import Listener


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class World:
    """A target that listens and the credentials of its source; closes everything it made."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority: Authority = create_authority("5eed", now())
        issue(self.authority, "target", directory / "target", now())
        issue(self.authority, "source", directory / "source", now())
        self.target = Trust(directory / "target", now)
        self.source = Trust(directory / "source", now)
        self.channels: queue.SimpleQueue[Channel] = queue.SimpleQueue()
        self._made: list[Channel | Listener] = []

    def listen(self, **settings: Any) -> Listener:
        listener = Listener("127.0.0.1", 0, self.target, self.channels.put, **settings)
        self._made.append(listener)
        return listener

    def join(
        self, lanes: int = 1, theirs: Options | None = None, ours: Options | None = None
    ) -> tuple[Channel, Channel]:
        """(source's end, target's end), not yet greeted."""
        listener = self.listen(options=theirs or Options())
        source = connect(*listener.address, self.source, lanes=lanes, options=ours or Options())
        target = self.channels.get(timeout=10)
        self._made += [source, target]
        return source, target

    def streaming(self, *args: Any, **settings: Any) -> tuple[Channel, Channel]:
        source, target = self.join(*args, **settings)
        source.send(Hello("source", "5eed", (), 0, 1))
        assert isinstance(target.receive(5), Hello)
        target.send(Welcome(0, 0, 0))
        assert isinstance(source.receive(5), Welcome)
        return source, target

    def close(self) -> None:
        while not self.channels.empty():
            self._made.append(self.channels.get())
        for thing in reversed(self._made):
            if isinstance(thing, Channel):
                thing.close(timeout=0.1)
            else:
                thing.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()
