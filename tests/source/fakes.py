"""Stand-ins for the rooms around the one under test."""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import Any

from livelift.model.entry import Attributes
from livelift.ports import Synced


class Time:
    """A clock that only moves when told to."""

    def __init__(self) -> None:
        self.value = 1000.0

    def __call__(self) -> float:
        return self.value


def file(size: int = 0, ctime: int = 1, nlink: int = 1, **more: Any) -> Attributes:
    return Attributes(stat.S_IFREG | 0o644, 0, 0, size, ctime, 0, ctime, nlink, **more)


def directory(ctime: int = 1) -> Attributes:
    return Attributes(stat.S_IFDIR | 0o755, 0, 0, 0, ctime, 0, ctime)


Walk = Callable[[int, bool], None]


class FakeCapture:
    """Gives out what it was given, an exception by raising it; a sync mark comes with the next read."""

    def __init__(self, *reads: list) -> None:
        self.reads = list(reads)
        self.tokens: list[int] = []

    def read(self, timeout: float) -> list:
        if self.tokens:
            return [Synced(self.tokens.pop(0))]
        found = self.reads.pop(0) if self.reads else []
        if isinstance(found, Exception):
            raise found
        return found

    def sync(self, token: int) -> None:
        self.tokens.append(token)
