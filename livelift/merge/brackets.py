"""Brackets: while an object is being read, what is captured on it waits.

BASE_BEGIN at log position P1, content or listing, BASE_END at P2: events on the object captured between the two
positions are held back and handed out when the bracket closes, so they come after the base in the log. Events on
other objects pass. Held events are bounded; beyond the bound they are thrown away and the closing tells the caller to
read the object again (the events' whole information: something changed).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

E = TypeVar("E")

MAX_HELD = 50_000
"""Events held over all open brackets: about 15 MB of small tuples."""


class Held(NamedTuple, Generic[E]):
    """What waited on an object: the events in order, or ``overflow`` = too many, look again."""

    events: list[E]
    overflow: bool


class Brackets(Generic[E]):
    """The open brackets, by object id. An object may be opened once only: two readers of one object would race."""

    def __init__(self, limit: int = MAX_HELD) -> None:
        self._open: dict[int, list[E] | None] = {}  # None: more than may be held
        self._empty: list[E] = []  # stands for "nothing held yet": most brackets close that way
        self._limit = limit
        self._held = 0

    def __len__(self) -> int:
        return len(self._open)

    def is_open(self, oid: int) -> bool:
        return oid in self._open

    def open(self, oid: int) -> bool:
        """Begin a bracket; False if the object has one already."""
        if oid in self._open:
            return False
        self._open[oid] = self._empty
        return True

    def hold(self, oid: int, event: E) -> bool:
        """True if the event now waits for the bracket of ``oid`` to close."""
        if oid not in self._open:
            return False
        held = self._open[oid]
        if held is not None:
            if self._held >= self._limit:
                self._held -= len(held)
                self._open[oid] = None
                return True
            if held is self._empty:
                held = self._open[oid] = []
            held.append(event)
            self._held += 1
        return True

    def close(self, oid: int) -> Held[E]:
        held = self._open.pop(oid)
        if held is None:
            return Held([], True)
        self._held -= len(held)
        return Held(held.copy(), False)

    def close_quiet(self, oids: Iterable[int]) -> list[int]:
        """Close those on which nothing waits; the others stay open and are returned, for `close`."""
        kept = self._open
        empty = self._empty
        loud = [oid for oid in oids if kept[oid] is not empty]
        for oid in set(oids).difference(loud):
            del kept[oid]
        return loud
