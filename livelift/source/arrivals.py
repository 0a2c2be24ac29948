"""Who asked the capture for a sync mark waits here until the follower has come to it."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Arrivals:
    """Tokens only grow: a mark answers every question that was asked before it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asked = 0
        self._reported = 0

    def ask(self) -> int:
        with self._changed:
            self._asked += 1
            return self._asked

    def reported(self, token: int) -> None:
        with self._changed:
            self._reported = max(self._reported, token)
            self._changed.notify_all()

    def wait(self, token: int, failed: Callable[[], bool], timeout: float) -> bool:
        """True when it has come, or never will (``failed``); False after ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._reported >= token or failed(), timeout)
