"""What waits to be sent: one bounded queue per lane, filled where there is most room."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from livelift.errors import LiveliftError

T = TypeVar("T")


class Outbox(Generic[T]):
    """``limit``: bytes per lane, counted until sent. An item larger than that passes when its lane is empty."""

    def __init__(self, lanes: int, limit: int) -> None:
        self._limit = limit
        lock = threading.Lock()
        self._room = threading.Condition(lock)
        self._filled = [threading.Condition(lock) for _ in range(lanes)]
        self._queues: list[deque[tuple[T, int]]] = [deque() for _ in range(lanes)]
        self._bytes = [0] * lanes
        self._sequence = 0
        self._error: Callable[[], LiveliftError] | None = None

    @property
    def waiting(self) -> int:
        """Bytes not yet handed to the kernel."""
        return sum(self._bytes)

    @property
    def sequence(self) -> int:
        """How many items were put."""
        return self._sequence

    def put(self, make: Callable[[int], T], size: int, urgent: bool = False) -> None:
        """Queue ``make(sequence number)``; waits for room (not when ``urgent``). Raises what `fail` was given."""
        with self._room:
            while True:
                if self._error:
                    raise self._error()
                lane = self._bytes.index(min(self._bytes))
                if urgent or not self._bytes[lane] or self._bytes[lane] + size <= self._limit:
                    break
                self._room.wait()
            item = make(self._sequence)
            self._sequence += 1
            self._bytes[lane] += size
            if urgent:
                self._queues[lane].appendleft((item, size))
            else:
                self._queues[lane].append((item, size))
            self._filled[lane].notify()

    def take(self, lane: int) -> tuple[T, int] | None:
        """The next item of a lane with its size; waits. None: the channel is at its end."""
        with self._filled[lane]:
            while not self._error and not self._queues[lane]:
                self._filled[lane].wait()
            return None if self._error else self._queues[lane].popleft()

    def sent(self, lane: int, size: int) -> None:
        with self._room:
            self._bytes[lane] -= size
            self._room.notify_all()

    def drain(self, timeout: float) -> bool:
        """Wait until everything was sent; False: it was not, in ``timeout`` seconds or before the end."""
        deadline = time.monotonic() + timeout
        with self._room:
            while any(self._bytes) and not self._error:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                self._room.wait(remaining)
            return self._error is None

    def fail(self, error: Callable[[], LiveliftError]) -> None:
        with self._room:
            self._error = self._error or error
            for queue in self._queues:
                queue.clear()
            self._room.notify_all()
            for filled in self._filled:
                filled.notify_all()
