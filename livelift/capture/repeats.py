"""Names that several events speak of, and the second look that each of them needs. For fanotify only.

The kernel merges an unread event into an equal one that is still in the queue. So of `mv a b; mv b a; mv a b` only the
first two arrive, and who follows them ends with "a" where the disk has "b". A merged event can only mislead if another
event spoke of the same name between it and the one that it vanished into: else nothing could have happened twice. So a
name that is spoken of again, while what was said first may still have been in the queue, is TOUCHED after that: look at
it as it is now. The last word on such a name is always a look, hence the truth.
"""

from __future__ import annotations

from collections.abc import Callable

from livelift.ports import Event, Named, Op

LIMIT = 1 << 17
"""Names to remember before asking how long the queue is, which costs 65 ns for each queued event, under its lock."""

Name = tuple[int, bytes]


class Repeats:
    """``queued``: how many events are in the queue now; asked only when it is never found empty."""

    def __init__(self, queued: Callable[[], int]) -> None:
        self._queued = queued
        self._names: set[Name] = set()
        self._older: set[Name] = set()  # still of interest until ``_rest`` more events have been read
        self._rest = 0
        self._again: dict[Name, Named] = {}

    def note(self, event: Named) -> None:
        """This event is being reported."""
        self._mention((event.parent, event.name), event)
        if event.op is Op.RENAMED:
            self._mention((event.new_parent, event.new_name), event)

    def _mention(self, name: Name, event: Named) -> None:
        if name in self._names or name in self._older:
            self._again[name] = event
        else:
            self._names.add(name)

    def looks(self) -> list[Event]:
        """A TOUCHED for each name that was noted again since the last call."""
        if not self._again:
            return []
        result: list[Event] = [
            Named(Op.TOUCHED, parent, name, 0, 0, b"", event.is_dir, b"", event.time)
            for (parent, name), event in self._again.items()
        ]
        self._again.clear()
        return result

    def read_ended(self, events: int, emptied: bool) -> None:
        """A read gave this many events (or more, for the kernel); ``emptied``: it left nothing in the queue."""
        if emptied:
            self._names.clear()
            self._older.clear()
            return
        self._rest -= events
        if self._rest <= 0:
            self._older.clear()
        if len(self._names) > LIMIT and not self._older:
            self._older, self._names = self._names, set()
            self._rest = self._queued()
