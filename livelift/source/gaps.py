"""Gaps: what is known to be missing on the target. Cutover is refused while one is open."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from livelift.model.record import Gap, Kind, Link, Record
from livelift.source.journal import Journal

log = logging.getLogger(__name__)

SAID: Final = 1000
"""Gaps that are told in the agent's own output: the first ones. What a closed one was is known from there alone."""


class OpenGap(NamedTuple):
    reason: str
    detail: str
    since: float
    number: int = 0  # of this opening


class Gaps:
    """By object id; negative ids and 0 are whole volumes (-1 - volume; 0: everything)."""

    def __init__(self, journal: Journal, now: Callable[[], float]) -> None:
        self._journal = journal
        self._now = now
        self._lock = threading.Lock()
        self._open: dict[int, OpenGap] = {}
        self._linked: set[int] = set()
        self._numbers = itertools.count(1)
        self.total = 0
        self.openings = 0  # also of those that were open

    def open(self, oid: int, reason: str, detail: str = "") -> None:
        """Record the gap in the log and forget the object's content in the index, so that it is read again. An object's
        gap that is open already is opened anew: a reading that began before does not close it."""
        # A name that is not UTF-8 comes with surrogates, which the log's text fields cannot hold.
        detail = detail.encode("utf-8", "backslashreplace").decode()
        with self._journal.lock:
            with self._lock:
                fresh = oid not in self._open
                self._open[oid] = OpenGap(reason, detail, self._now(), next(self._numbers))
                self.total += fresh
                self.openings += 1
            if fresh and self.total <= SAID:
                log.info("gap: object %d: %s", oid, f"{reason}: {detail}" if detail else reason)
            if fresh or oid > 0:
                self._journal.put(Kind.GAP, Gap(max(oid, 0), reason, detail))

    def links(self, oid: int) -> None:
        """The object has several names, and a gap. When that closes, all but the first are said again: a target that
        has them on different file systems has copies there, made of what the first one held."""
        with self._lock:
            self._linked.add(oid)

    def close(self, oid: int) -> None:
        with self._lock:
            gap = self._open.pop(oid, None)
            linked = oid in self._linked
            self._linked.discard(oid)
        if gap is None:
            return
        with self._journal.lock:
            if linked:
                places = [place for place in self._journal.index.places(oid) if place[0] > 0]
                self._journal.emit([Record(Kind.LINK, Link(oid, *place, *places[0])) for place in places[1:]])
            self._journal.put(Kind.GAP_CLOSED, Gap(max(oid, 0), gap.reason, gap.detail))

    def number(self, oid: int) -> int:
        """Which opening of this object's gap stands; 0: none. A reader notes it before it reads the first byte."""
        with self._lock:
            gap = self._open.get(oid)
            return 0 if gap is None else gap.number

    def forget_objects(self) -> None:
        """A gap of everything takes their place."""
        with self._lock:
            self._open = {oid: gap for oid, gap in self._open.items() if oid <= 0}
            self._linked.clear()

    def is_open(self, oid: int) -> bool:
        return oid in self._open

    def __len__(self) -> int:
        return len(self._open)

    def listing(self, limit: int = 1000) -> list[tuple[int, OpenGap]]:
        with self._lock:
            return list(self._open.items())[:limit]
