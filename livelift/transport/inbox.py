"""What has come and was not yet fetched: batches put back into order over all lanes, messages, and the end.

Memory is bounded: a lane that has read a frame's header must be admitted before it reads the rest. Always admitted is
the frame that the consumer gets next, else a full inbox would wait for the one frame that can empty it.
"""

from __future__ import annotations

import mmap
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from livelift.errors import LiveliftError, WireError
from livelift.protocol.frames import Header
from livelift.protocol.messages import Bye, Message
from livelift.transport.pool import Pool

MESSAGES: Final = 4096
"""Messages waiting for the consumer; then the control lane stops reading too."""
MESSAGE_BYTES: Final = 32 << 20


class Delivery:
    """A batch that came: ``heads``, ``blob`` (page-aligned memory), ``first_lsn``, ``count``.

    The blob goes back to the pool at ``release``; ``retain`` adds a further user, who must release too. Whoever forgets
    costs memory until the object is collected, never correctness.
    """

    __slots__ = ("_buffer", "_done", "_users", "blob", "count", "first_lsn", "heads", "sequence", "size")

    def __init__(
        self,
        heads: bytes,
        blob: memoryview,
        first_lsn: int,
        count: int,
        sequence: int,
        buffer: mmap.mmap | None,
        done: Callable[[Delivery, mmap.mmap | None], None],
    ) -> None:
        self.heads = heads
        self.blob = blob
        self.first_lsn = first_lsn
        self.count = count
        self.sequence = sequence
        self.size = len(heads) + len(blob)
        self._buffer = buffer
        self._users = 1
        self._done = done

    @property
    def last_lsn(self) -> int:
        return self.first_lsn + self.count - 1

    def retain(self) -> None:
        with _users_lock:
            if self._users <= 0:
                raise ValueError("a delivery that was already released")
            self._users += 1

    def release(self) -> None:
        with _users_lock:
            if self._users <= 0:
                raise ValueError("a delivery that was already released")
            self._users -= 1
            if self._users:
                return
            buffer, self._buffer = self._buffer, None
        self._done(self, buffer)

    def __del__(self) -> None:
        # Forgotten: give the room back, but not the buffer, of which slices may live on in records.
        if getattr(self, "_users", 0) > 0:
            self._users = 0
            self._done(self, None)


_users_lock = threading.Lock()


class Inbox:
    """``limit``: bytes of batches held, from admission until their release."""

    def __init__(self, limit: int, pool: Pool) -> None:
        self._limit = limit
        self._pool = pool
        # Re-entrant: a collected Delivery may give its room back in the middle of any of these methods.
        lock = threading.RLock()
        self._arrived = threading.Condition(lock)
        self._room = threading.Condition(lock)
        self._batches: dict[int, Delivery] = {}
        self._messages: deque[tuple[Message, int, int]] = deque()  # message, batches before it, size
        self._message_bytes = 0
        self._next = 0
        self._last_lsn = 0
        self._used = 0
        self._error: Callable[[], LiveliftError] | None = None

    @property
    def used(self) -> int:
        return self._used

    def admit(self, sequence: int, size: int) -> bool:
        """Wait until ``size`` bytes may be held for this batch. False: the channel is at its end."""
        with self._room:
            if sequence < self._next or sequence in self._batches:
                raise WireError(f"batch {sequence} came twice")
            while not self._error and self._used + size > self._limit and sequence != self._next:
                self._room.wait()
            self._used += size
            return self._error is None

    def put(self, delivery: Delivery) -> None:
        with self._arrived:
            self._batches[delivery.sequence] = delivery
            if delivery.sequence == self._next:
                self._arrived.notify()

    def put_message(self, message: Message, batches_before: int, size: int) -> None:
        with self._arrived:
            while not self._error and self._messages and self._is_crowded(size):
                self._room.wait()
            self._messages.append((message, batches_before, size))
            self._message_bytes += size
            self._arrived.notify()

    def _is_crowded(self, size: int) -> bool:
        return len(self._messages) >= MESSAGES or self._message_bytes + size > MESSAGE_BYTES

    def take(self, timeout: float | None) -> Message | Delivery | None:
        """The next message, else the next batch; None when ``timeout`` seconds passed without either."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._arrived:
            while True:
                if self._error:
                    raise self._error()
                found = self._take_message() or self._take_batch()
                if found is not None:
                    return found
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    return None
                self._arrived.wait(remaining)

    def is_complete(self) -> bool:
        """Whether every batch has come that was sent before the peer's Bye."""
        with self._arrived:
            for message, batches_before, _ in self._messages:
                if isinstance(message, Bye):
                    return all(sequence in self._batches for sequence in range(self._next, batches_before))
        return True

    def _take_message(self) -> Message | None:
        if not self._messages:
            return None
        message, batches_before, size = self._messages[0]
        if isinstance(message, Bye) and batches_before > self._next:
            return None
        self._messages.popleft()
        self._message_bytes -= size
        self._room.notify_all()
        return message

    def _take_batch(self) -> Delivery | None:
        delivery = self._batches.pop(self._next, None)
        if delivery is None:
            return None
        if delivery.first_lsn <= self._last_lsn:
            raise WireError(f"LSN {delivery.first_lsn} came after LSN {self._last_lsn}")
        self._next += 1
        self._last_lsn = delivery.last_lsn
        self._room.notify_all()  # the lane that holds the next one is admitted now
        return delivery

    def deliver(self, header: Header, heads: bytes, blob: memoryview, buffer: mmap.mmap | None) -> None:
        """An admitted batch is complete. ``buffer``: the pool's, of which ``blob`` is a part."""
        self.put(
            Delivery(heads, blob, header.first_lsn, header.records, header.sequence, buffer, self._released)
        )

    def _released(self, delivery: Delivery, buffer: mmap.mmap | None) -> None:
        if buffer is not None:
            self._pool.give(buffer)
        with self._room:
            self._used -= delivery.size
            self._room.notify_all()

    def fail(self, error: Callable[[], LiveliftError]) -> None:
        """From now on ``take`` raises this; whoever waits, wakes."""
        with self._arrived:
            self._error = self._error or error
            self._batches.clear()
            self._arrived.notify_all()
            self._room.notify_all()
