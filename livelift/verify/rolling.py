"""Warms the digest cache while the job follows: reads, a little at a time, what has changed since it was last hashed.

After a round, the closing verification reads only what changed since. Nothing is compared here and no trouble is
reported: a file that cannot be read now is looked at again by the verification itself, which does report it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from livelift.platform.system import stamp_clock
from livelift.verify.cache import DigestCache, may_keep
from livelift.verify.measure import Measurer
from livelift.verify.scan import LOT, Scanner


class Progress(NamedTuple):
    """Where the rolling verification is. Counts are those of the current round; rounds are counted from 1."""

    round: int
    map: int
    path: bytes  # the directory it is in
    directories: int
    objects: int
    known: int  # objects that the cache vouched for already
    bytes_hashed: int
    bytes_known: int
    round_done: bool  # this step finished the round; the next one begins another


class Rolling:
    """``step`` works for about as long as it may, in one thread. ``close`` releases descriptors."""

    def __init__(
        self,
        scanners: Sequence[tuple[Scanner, Measurer]],
        cache: DigestCache,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scanners = scanners
        self._cache = cache
        self._clock = clock
        self._state = _Round(0)
        self._work: Generator[None, None, None] | None = None

    def step(self, seconds: float) -> Progress:
        """Go on for ``seconds``, or to the end of the round. One read of 1 MiB, or one directory's listing, is not
        interrupted."""
        deadline = self._clock() + seconds
        if self._work is None:
            self._state = _Round(self._state.number + 1)
            self._work = self._round(self._state)
        for _ in self._work:
            if self._clock() >= deadline:
                return self._state.progress(False)
        self.close()
        self._cache.flush()
        return self._state.progress(True)

    def close(self) -> None:
        if self._work is not None:
            self._work.close()
            self._work = None

    def _round(self, state: _Round) -> Generator[None, None, None]:
        for scanner, measurer in self._scanners:
            state.map = scanner.map
            for path, fd, names in scanner.listings():
                state.path = path
                state.directories += 1
                for at in range(0, len(names), LOT):
                    yield from self._lot(state, measurer, path, fd, names[at : at + LOT])
                yield

    def _lot(
        self, state: _Round, measurer: Measurer, path: bytes, fd: int, names: list[bytes]
    ) -> Generator[None, None, None]:
        before = measurer.counts
        lot = measurer.look(fd, path, names)
        known = measurer.counts
        state.objects += len(names)
        state.known += known.objects - before.objects
        state.bytes_known += known.bytes_cached - before.bytes_cached
        for item in lot.unread:
            if may_keep(item.seen, stamp_clock(), measurer.mapped):  # else the reading would be for nothing
                for count in measurer.steps(fd, path, lot, item):
                    state.bytes_hashed += count
                    yield
            yield


@dataclass(slots=True)
class _Round:
    number: int
    map: int = 0
    path: bytes = b""
    directories: int = 0
    objects: int = 0
    known: int = 0
    bytes_hashed: int = 0
    bytes_known: int = 0

    def progress(self, done: bool) -> Progress:
        return Progress(
            self.number,
            self.map,
            self.path,
            self.directories,
            self.objects,
            self.known,
            self.bytes_hashed,
            self.bytes_known,
            done,
        )
