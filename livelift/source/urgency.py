"""Who can wait gives way to the one that empties the capture's ring.

What is in the log can be sent later, and what is on the disk can be read later; what finds no room in the ring has to
be read again, under load. Threads of one interpreter share its lock, so it is not enough to have the better priority.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

MOST: Final = 0.2
"""Seconds for which one piece of work waits at most: a ring that is never empty must not stop a move."""

STEP: Final = 0.005


class Urgency:
    """``high``: what is captured comes faster than it is taken. Set by the follower, asked by any thread."""

    def __init__(
        self, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.high = False
        self._now = now
        self._sleep = sleep

    def give_way(self) -> None:
        """Before a piece of work that can wait, with no lock held."""
        until = self._now() + MOST
        while self.high and self._now() < until:
            self._sleep(STEP)
