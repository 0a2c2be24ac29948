"""Names that an in-kernel mode tells in order: what agrees with the index goes into the log as it was told.

While a mode that tells everything in order is followed, and nothing is being read late, the index is exactly the tree
at the event's position, so nothing needs to be looked at. Where an event does not agree (a directory was listed after
it happened, or is being listed) it is left to those who look.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable
from typing import Protocol

from livelift.merge.brackets import Brackets
from livelift.merge.names import EXCHANGE, Emit, Namer, Step, make_kind
from livelift.model.record import Kind, Link, Make, Record, Rename, Unlink
from livelift.ports import Event, Named
from livelift.source.dirty import Dirty
from livelift.source.journal import Journal

SOON = 0.05
"""Seconds until a new object's attributes are looked at: it may inherit extended attributes and flags, which no call
tells."""


class CarryOut(Protocol):
    def __call__(self, steps: Iterable[Step], at: int, late: bool = True) -> None: ...


class InOrder:
    """The merge lock is held around every call. ``included(parent, name)``: False for what is excluded from the job."""

    def __init__(
        self,
        journal: Journal,
        namer: Namer,
        brackets: Brackets[Event],
        dirty: Dirty,
        included: Callable[[int, bytes], bool],
        carry_out: CarryOut,
        map_of: Callable[[int], int],
    ) -> None:
        self._journal = journal
        self._namer = namer
        self._brackets = brackets
        self._dirty = dirty
        self._included = included
        self._carry_out = carry_out
        self._map_of = map_of

    def follow(self, record: Record, event: Named, swap: int) -> bool:
        """True if the record (``event``, ``swap``: the same as a hint) is in the log now, or is none of ours."""
        body = record.body
        if isinstance(body, Make):
            return self._make(record, body)
        known = self._ours(event.parent, event.name)
        if isinstance(body, Unlink):
            return not known or self._remove(event)
        if isinstance(body, Rename):
            return self._rename(body, event, swap, known, self._ours(event.new_parent, event.new_name))
        return False

    def _ours(self, parent: int, name: bytes) -> bool:
        return self._journal.index.is_dir(parent) and self._included(parent, name)

    def _make(self, record: Record, body: Make) -> bool:
        if not self._ours(body.parent, body.name):
            return True
        index, a = self._journal.index, body.attributes
        places = index.places(body.oid)
        if a.is_file and a.nlink == 1 and places:
            # The index is ahead: the new file was read, and then what was told of the old one with this number.
            self._dirty.add(body.oid, True, record.time)
        if index.lookup(body.parent, body.name) or self._brackets.is_open(body.oid) or self._dirty.is_new(body.oid):
            return False
        if places:
            first = next((place for place in places if place[0] > 0), None)
            if a.nlink < 2 or a.is_dir or first is None or index.type_of(body.oid) != stat.S_IFMT(a.mode):
                return False
            link = Emit(Kind.LINK, Link(body.oid, body.parent, body.name, *first))
            self._carry_out([link], record.time, late=False)
        else:
            if stat.S_ISLNK(a.mode) and not a.target:
                return False
            self._carry_out([Emit(make_kind(a.mode), body)], record.time, late=False)
            if a.is_file and not a.size and a.nlink == 1:
                index.empty(body.oid)
            elif a.is_file:  # it was written before it had a name, or has one where we do not look
                self._dirty.add(body.oid, True, record.time)
        self._dirty.add(body.oid, False, record.time, delay=SOON)
        return True

    def _empty(self, directory: int) -> bool:
        """True for a directory that has no names in the index, and is not being listed."""
        if self._brackets.is_open(directory):
            return False
        return next(iter(self._journal.index.children(directory)), None) is None

    def _remove(self, event: Named) -> bool:
        index = self._journal.index
        if not event.child or index.lookup(event.parent, event.name) != event.child:
            return False
        if index.is_dir(event.child) and not self._empty(event.child):
            return False
        self._carry_out(self._namer.follow(event, False, self._map_of(event.parent)), event.time, late=False)
        return True

    def _rename(self, body: Rename, event: Named, swap: int, known: bool, target_known: bool) -> bool:
        if not known and not target_known:
            return True
        if not known:
            return False
        if body.flags & EXCHANGE:
            if not target_known or not self._namer.exchangeable(event, swap):
                return False
            self._carry_out(self._namer.exchange(event), event.time, late=False)
        else:
            if not self._agrees(body, target_known):
                return False
            steps = self._namer.follow(event, target_known, self._map_of(event.parent))
            self._carry_out(steps, event.time, late=False)
        return True

    def _agrees(self, body: Rename, target_known: bool) -> bool:
        index = self._journal.index
        if index.lookup(body.parent, body.name) != body.oid:
            return False
        if not target_known:
            return True
        victim = index.lookup(body.new_parent, body.new_name)
        if victim != body.victim or victim == body.oid or (index.is_dir(victim) and not self._empty(victim)):
            return False
        return body.new_parent != body.oid and not self._namer.inside(body.new_parent, body.oid)
