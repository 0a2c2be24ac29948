"""A few threads that apply records of independent objects at the same time; the caller's thread is one of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Final

from livelift.model.record import Record
from livelift.replay.apply import apply_one
from livelift.replay.directories import Directory
from livelift.replay.hands import Hands
from livelift.replay.trouble import Conflict

Item = tuple[Record, Directory]

ALONE: Final = 32
"""Groups smaller than this are done before another thread has woken up and got the interpreter's lock."""
_SHARD_SHIFT: Final = 6
"""Neighbours in inode number mostly lie in one directory; they go to the same worker, so two workers seldom fight for
one directory's lock. The worker of an object never changes: its records stay in order, its file is open only once."""


class _Outcome:
    __slots__ = ("conflicts", "error")

    def __init__(self) -> None:
        self.conflicts: list[Conflict] = []
        self.error: BaseException | None = None


class Workers:
    """``hands``: one for each worker; the first one is the caller's."""

    def __init__(self, hands: Sequence[Hands]) -> None:
        self.hands = list(hands)
        self._inbox: list[SimpleQueue[list[Item] | None]] = [SimpleQueue() for _ in self.hands[1:]]
        self._done: SimpleQueue[_Outcome] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, args=(own, inbox), name=f"replay-{number}", daemon=True)
            for number, (own, inbox) in enumerate(zip(self.hands[1:], self._inbox, strict=True), 1)
        ]
        for thread in self._threads:
            thread.start()

    def of(self, oid: int) -> Hands:
        """The hands that hold this object's open file."""
        return self.hands[(oid >> _SHARD_SHIFT) % len(self.hands)]

    def drop(self, oid: int) -> None:
        """The object may be gone: close its file."""
        self.of(oid).files.drop(oid)

    def run(self, group: list[Item]) -> list[Conflict]:
        """Apply the group: every object's records in their order. ReplicaError if any worker met one, after all
        stopped."""
        count = len(self.hands)
        if count == 1 or len(group) < ALONE:
            if count == 1:
                return _work(self.hands[0], group).conflicts
            shares = self._split(group)
            pairs = zip(self.hands, shares, strict=True)
            return [conflict for own, share in pairs for conflict in _work(own, share).conflicts]
        shares = self._split(group)
        for inbox, share in zip(self._inbox, shares[1:], strict=True):
            inbox.put(share)
        outcomes = [_collect(self.hands[0], shares[0])]
        outcomes.extend(self._done.get() for _ in self._inbox)
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error
        return [conflict for outcome in outcomes for conflict in outcome.conflicts]

    def _split(self, group: list[Item]) -> list[list[Item]]:
        count = len(self.hands)
        shares: list[list[Item]] = [[] for _ in range(count)]
        for item in group:
            oid: int = item[0].body.oid  # type: ignore[union-attr]
            shares[(oid >> _SHARD_SHIFT) % count].append(item)
        return shares

    def _serve(self, own: Hands, inbox: SimpleQueue[list[Item] | None]) -> None:
        while (share := inbox.get()) is not None:
            self._done.put(_collect(own, share))

    def close(self) -> None:
        for inbox in self._inbox:
            inbox.put(None)
        for thread in self._threads:
            thread.join()
        for own in self.hands:
            own.files.close()


def _work(own: Hands, share: list[Item]) -> _Outcome:
    outcome = _Outcome()
    for record, directory in share:
        conflict = apply_one(own, directory, record)
        if conflict is not None:
            outcome.conflicts.append(conflict)
    return outcome


def _collect(own: Hands, share: list[Item]) -> _Outcome:
    """As `_work`, but an error waits until every worker has stopped."""
    outcome = _Outcome()
    try:
        return _work(own, share)
    except BaseException as error:  # handed to the caller's thread, which raises it
        outcome.error = error
        return outcome
