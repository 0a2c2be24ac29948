"""The newest batches in memory, whole: a sender that keeps up never reads the disk, and base content never goes there.

Not thread-safe: the spool's lock guards it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

from livelift.log.batch import Batch, heads_of, split_blob
from livelift.log.crc import Buffer
from livelift.model.record import RELOADABLE

_BATCH_COST = 600
_BLOB_COST = 60
"""Bytes of Python objects per batch and per payload, counted so that tiny records cannot hide behind the limit."""


class Held:
    """A batch in memory. ``blobs[i]`` is None where the payload was given up: the disk has it."""

    __slots__ = ("batch", "blobs", "fixed", "movable")

    def __init__(self, batch: Batch, reloadable: int) -> None:
        self.batch = batch
        self.blobs: list[Buffer | None] = list(batch.blobs)
        self.fixed = reloadable + len(batch.heads) + _BATCH_COST + _BLOB_COST * len(batch.blobs)
        self.movable = batch.payload_size - reloadable

    @property
    def whole(self) -> bool:
        return self.movable >= 0


class Tail:
    """``limit`` bytes of batches; what the disk also has gives way first, oldest first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self.reloadable = 0
        self._held: dict[int, tuple[Held, int]] = {}
        self._firsts: list[int] = []  # ascending; those no longer held linger until they are passed
        self._start = 0
        self._movable: deque[int] = deque()

    def put(self, batch: Batch, reloadable: int) -> None:
        """``reloadable``: how many payload bytes are on no disk of ours."""
        held = Held(batch, reloadable)
        self._held[batch.first_lsn] = held, reloadable
        self._firsts.append(batch.first_lsn)
        self._movable.append(batch.first_lsn)
        self.bytes += held.fixed + held.movable
        self.reloadable += reloadable
        while self.bytes > self.limit and self._movable:
            self._give_way(self._movable.popleft())

    def find(self, lsn: int) -> Held | None:
        """The batch that holds this LSN."""
        found = self._held.get(lsn)
        if found is None:
            place = bisect_right(self._firsts, lsn, self._start) - 1
            if place < self._start:
                return None
            found = self._held.get(self._firsts[place])
            if found is None or found[0].batch.last_lsn < lsn:
                return None
        return found[0]

    def forget(self, lsn: int) -> None:
        """Let go of every batch that ends at or before ``lsn``."""
        while self._start < len(self._firsts):
            first = self._firsts[self._start]
            found = self._held.get(first)
            if first > lsn or (found is not None and found[0].batch.last_lsn > lsn):
                break
            self._start += 1
            self._remove(first)
        if self._start > 1024 and self._start * 2 > len(self._firsts):
            del self._firsts[: self._start]
            self._start = 0
        while self._movable and self._movable[0] not in self._held:
            self._movable.popleft()

    def _remove(self, first: int) -> None:
        found = self._held.pop(first, None)
        if found is not None:
            held, reloadable = found
            self.bytes -= held.fixed + max(held.movable, 0)
            self.reloadable -= reloadable

    def _give_way(self, first: int) -> None:
        found = self._held.get(first)
        if found is None:
            return
        held, reloadable = found
        if not reloadable:
            self._remove(first)
        elif held.movable > 0:
            heads = [head for head in heads_of(held.batch.heads) if head.payload]
            held.blobs = [b if h.kind in RELOADABLE else None for h, b in zip(heads, held.blobs, strict=True)]
            held.batch = Batch(held.batch.first_lsn, held.batch.count, held.batch.heads, [])
            self.bytes -= held.movable
            held.movable = -1


def filled(batch: Batch, blobs: list[Buffer | None], stored: Batch) -> Batch:
    """A batch of which memory has the base content and the disk the rest."""
    rest = iter(split_blob(stored.heads, stored.blobs[0] if stored.blobs else b""))
    return Batch(batch.first_lsn, batch.count, batch.heads, [next(rest) if blob is None else blob for blob in blobs])
