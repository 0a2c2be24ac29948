"""Directories that have the time of the replay on the target get the source's again."""

from __future__ import annotations

from livelift.merge.brackets import Brackets
from livelift.ports import Event
from livelift.source.dirty import Dirty
from livelift.source.journal import Journal


def tell_times(journal: Journal, brackets: Brackets[Event], dirty: Dirty) -> None:
    """Have the attributes read of every directory that `livelift.index.untimed` knows, but for those that a reading
    under way ends with (their bracket is open), and those in limbo."""
    with journal.lock:
        index = journal.index
        for oid in list(index.untimed):
            if brackets.is_open(oid):
                continue
            path = index.path(oid) if oid > 0 else None
            if path is None:
                index.untimed.discard(oid)
            elif path[0].isdigit():
                dirty.add(oid, False)
