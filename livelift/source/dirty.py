"""What has to be read again, and when: marks coalesce, hot files wait longer.

Memory is bounded by the number of distinct objects that changed and were not read yet (about 200 bytes each).
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

COALESCE = 0.03
"""Seconds between a mark and its reading: repeated writes cost one reading, and the kernel's timestamp tick (up to 10
ms at
HZ=100) has passed, so that a later change shows in ctime."""

PACE = 0.01
"""Seconds that a reader sleeps at least when nothing is due: marks that come due one after the other are then read
together,
and a thousand changes a second cost a hundred wake-ups."""

DUTY = 4.0
"""A file whose reading took t seconds is not read again for DUTY * t: at most a fifth of one core goes into one hot
file."""


class Mark(NamedTuple):
    """Why an object is dirty. ``content`` False: only its attributes. ``first``: ns, when the oldest change was
    captured."""

    content: bool
    first: int
    place: tuple[int, bytes] | None  # of a new file that the log does not know yet
    tries: int


class Dirty:
    """Thread-safe. ``now`` gives monotonic seconds, ``reached`` how far the follower of an in-kernel capture has come
    (`livelift.source.journal.Journal`; 0: another capture)."""

    def __init__(self, now: Callable[[], float], reached: Callable[[], int] = lambda: 0) -> None:
        self._now = now
        self._reached = reached
        self._condition = threading.Condition()
        self._marks: dict[int, Mark] = {}
        self._due: list[tuple[float, int]] = []
        self._held: list[tuple[int, float, int]] = []  # (position, due then, object): not before the follower is there
        self._not_before: dict[int, float] = {}
        self._reading: list[tuple[int, Mark]] = []
        self._asked: dict[int, bool] = {}  # True: the reading that was asked for is under way
        self.hurry = False  # draining: no waiting

    def __len__(self) -> int:
        return len(self._marks)

    def add(
        self,
        oid: int,
        content: bool,
        time: int = 0,
        place: tuple[int, bytes] | None = None,
        delay: float = COALESCE,
        tries: int = 0,
    ) -> None:
        with self._condition:
            self._add(oid, Mark(content, time, place, tries), delay)

    def again(self, oid: int, mark: Mark, delay: float, position: int = 0) -> None:
        """It was taken and could not be read yet: as `add`, and what was asked of it is still to be done. ``position``:
        nor before the follower has come there."""
        with self._condition:
            if oid in self._asked:
                self._asked[oid] = False
            self._add(oid, mark, delay, position)

    def ask(self, oids: Iterable[int]) -> None:
        """Have their content read again. A reading that has begun already does not count: `is_asked` says no when a
        later one is over, however often they are marked meanwhile."""
        with self._condition:
            for oid in oids:
                self._asked[oid] = False
                self._add(oid, Mark(True, 0, None, 0), 0.0)

    def is_asked(self, oids: Iterable[int]) -> bool:
        """Whether one of them is still to be read as it was asked for."""
        with self._condition:
            return any(oid in self._asked for oid in oids)

    def has(self, oids: Iterable[int]) -> bool:
        """Whether one of them waits to be read, or is being read."""
        with self._condition:
            reading = {oid for oid, _ in self._reading}
            return any(oid in self._marks or oid in reading for oid in oids)

    def awaits_content(self, oid: int) -> bool:
        """Its content is to be read, and the reading has not begun."""
        with self._condition:
            mark = self._marks.get(oid)
            return mark is not None and _of_content(mark)

    def _add(self, oid: int, mark: Mark, delay: float, position: int = 0) -> None:
        old = self._marks.get(oid)
        if old is not None:
            if (mark.content and not old.content) or mark.place:
                self._marks[oid] = old._replace(content=mark.content or old.content, place=old.place or mark.place)
            return
        self._marks[oid] = mark
        due = max(self._now() + delay, self._not_before.get(oid, 0.0))
        if position > self._reached():
            heapq.heappush(self._held, (position, due, oid))
            return
        heapq.heappush(self._due, (due, oid))
        if self.hurry or self._due[0] == (due, oid):  # else the reader wakes early enough by itself
            self._condition.notify()

    def take(self, timeout: float) -> tuple[int, Mark] | None:
        """The next object that is due; the caller calls `done` when it has been read."""
        with self._condition:
            deadline = self._now() + timeout
            while True:
                now = self._now()
                while self._held and self._held[0][0] <= self._reached():
                    heapq.heappush(self._due, heapq.heappop(self._held)[1:])
                while self._due and self._due[0][1] not in self._marks:
                    heapq.heappop(self._due)
                if self._due and (self.hurry or self._due[0][0] <= now):
                    oid = heapq.heappop(self._due)[1]
                    mark = self._marks.pop(oid)
                    self._reading.append((oid, mark))
                    if mark.content and oid in self._asked:
                        self._asked[oid] = True
                    return oid, mark
                wait = min(deadline, self._due[0][0] if self._due else deadline) - now
                if now >= deadline:
                    return None
                self._condition.wait(max(wait, PACE if timeout else 0.001))

    def take_ready(self, timeout: float, most: int) -> list[tuple[int, Mark]]:
        """The next object that is due and up to ``most`` - 1 others that are due as well."""
        first = self.take(timeout)
        if first is None:
            return []
        found = [first]
        while len(found) < most and (more := self.take(0.0)) is not None:
            found.append(more)
        return found

    @property
    def busy(self) -> int:
        """How many objects are being read."""
        return len(self._reading)

    def done(self, oid: int, took: float) -> None:
        with self._condition:
            self._reading.remove(next(taken for taken in self._reading if taken[0] == oid))
            if self._asked.get(oid):
                del self._asked[oid]
            if took > 0.02:
                self._not_before[oid] = self._now() + DUTY * took
                if len(self._not_before) > 4096:
                    now = self._now()
                    self._not_before = {o: t for o, t in self._not_before.items() if t > now}
            self._condition.notify_all()

    def is_new(self, oid: int) -> bool:
        """The object waits to be read under its first name."""
        with self._condition:
            mark = self._marks.get(oid)
            return mark is not None and mark.place is not None

    def forget(self, oid: int) -> None:
        """The names that the log knew are gone. A first name that waits to be read is not one of them."""
        with self._condition:
            mark = self._marks.get(oid)
            if mark is not None and mark.place is None:
                del self._marks[oid]
                self._asked.pop(oid, None)

    def content(self) -> int:
        """How many objects wait for their content to be read, or are being read for it."""
        with self._condition:
            return sum(map(_of_content, [*self._marks.values(), *(mark for _, mark in self._reading)]))

    def some(self, most: int) -> list[int]:
        """Objects that are being read or wait for it, up to ``most`` of them."""
        with self._condition:
            return [*(oid for oid, _ in self._reading), *self._marks][:most]

    def idle(self) -> bool:
        with self._condition:
            return not self._marks and not self._reading

    def oldest(self) -> int:
        """Capture time (ns) of the oldest change that has not been read; 0 if there is none."""
        with self._condition:
            return (
                min((m.first for m in self._marks.values() if m.first), default=0) if len(self._marks) < 10_000 else 0
            )

    def set_hurry(self, hurry: bool) -> None:
        with self._condition:
            self.hurry = hurry
            self._condition.notify_all()


def _of_content(mark: Mark) -> bool:
    return mark.content or mark.place is not None
