"""fanotify's marks on files whose content the ring has told already: second looks, made when the file has come to rest.

A mark says that *something* was written. Mostly that is what the ring has brought, byte by byte, and reading the file
at once would be work for nothing. But nobody can tell: a store by io_uring, or two writers whose order at their return
was not that of their writes, look alike. So the mark is kept until the file was quiet for a while, at most for LONGEST;
then the file is read and compared. Marks on other files pass at once. Pure; times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Iterator

from livelift.ports import Dirty

QUIET = 2.0
"""Seconds without content from the ring after which the file is looked at."""

LONGEST = 30.0
"""Seconds after which it is looked at although it is never quiet."""

REMEMBERED = 65536
"""Files whose last content is remembered, about 100 bytes each. Of those beyond, marks pass at once."""


class Echoes:
    """One thread."""

    def __init__(self, quiet: float = QUIET, longest: float = LONGEST) -> None:
        self._quiet = quiet
        self._longest = longest
        self._told: dict[int, float] = {}  # object: when the ring last told of it; oldest first
        self._kept: dict[int, tuple[Dirty, float]] = {}  # object: its first mark, and when it came

    def __len__(self) -> int:
        return len(self._kept)

    def told(self, oid: int, now: float) -> None:
        """The ring has brought content of this object, or the promise of more."""
        self._told.pop(oid, None)
        self._told[oid] = now
        if len(self._told) > REMEMBERED:
            del self._told[next(iter(self._told))]

    def heard(self, mark: Dirty, now: float) -> bool:
        """True if the mark is kept for later; else it is to be reported now."""
        if not mark.content or not mark.oid or now - self._told.get(mark.oid, -self._longest) >= self._quiet:
            self._kept.pop(mark.oid, None)  # this one speaks for both
            return False
        self._kept.setdefault(mark.oid, (mark, now))
        return True

    def due(self, now: float) -> Iterator[Dirty]:
        """Marks whose time has come. They are then no longer kept."""
        for oid, (mark, since) in list(self._kept.items()):
            if now - self._told.get(oid, -self._longest) >= self._quiet or now - since >= self._longest:
                del self._kept[oid]
                yield mark

    def all(self) -> list[Dirty]:
        """Every mark that is kept: for a drain, which must see everything that happened before it."""
        marks = [mark for mark, _ in self._kept.values()]
        self._kept.clear()
        return marks
