"""Names that could not be looked at where the index has them: looked at again when what explains it has been told."""

from __future__ import annotations

from typing import Final, NamedTuple

from livelift.ports import Named, Op

MOST: Final = 10_000


class _Waiting(NamedTuple):
    """Not before ``due`` (monotonic seconds) and ``position`` (of an in-kernel capture; 0: another one)."""

    due: float
    position: int
    event: Named


class Postponed:
    """An in-kernel mode knows when all that has happened up to now is in the log. Looked at sooner, again and again, a
    name takes the time that a follower needs that is far behind, and it falls further behind. The merge lock is held
    around every call but ``len``."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, parent: int, name: bytes, at: int, due: float, position: int) -> bool:
        """``at``: when the change was captured (ns). False: there are too many."""
        if len(self._waiting) >= MOST:
            return False
        self._waiting.append(_Waiting(due, position, Named(Op.TOUCHED, parent, name, time=at)))
        return True

    def take(self, now: float, reached: int) -> list[Named]:
        """Those whose time has come, each name once however often it was postponed. ``reached``: how far the follower
        has come."""
        due: dict[tuple[int, bytes], Named] = {}
        rest = []
        for each in self._waiting:
            if each.due <= now and each.position <= reached:
                due.setdefault((each.event.parent, each.event.name), each.event)
            else:
                rest.append(each)
        self._waiting = rest
        return [*due.values()]
