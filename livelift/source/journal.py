"""The merge lock, the index and the spool as one thing: records go into the log and are folded into the index at
once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from livelift.index.tree import TreeIndex
from livelift.model.record import Body, Gap, Kind, Record
from livelift.platform.system import os
from livelift.source.urgency import Urgency
from livelift.spool.pressure import SpoolFullError
from livelift.spool.repair import iterate, quarantine
from livelift.spool.spool import Spool

_READ: Final = frozenset({*Kind} & {*range(Kind.BASE_FILE, Kind.ATTRIBUTES)})
"""Kinds of records that speak of content."""


class Journal:
    """``lock`` is the merge lock: whoever decides by the index holds it until the decision is in the log.

    ``position``: where an in-kernel capture's stream is now (0: another capture). ``late``: where it was when something
    was put into the log that had been read from the live tree. What was read then may hold changes that are told up to
    there, so the log is a cut again only when it has all of them. ``read``: the same for each object whose content was
    read; ``passed``: up to where the log has all that was told (`caught_up`). ``reached``: up to where the follower has
    had all that was told, of which some may still be half told, or wait for something that is being read. ``urgency``:
    of the capture that the log is for.

    ``on_collapse``: called (lock held) when not even record heads fit into the spool any more: its unsent content is
    given up, the index is emptied, and everything must be compared with the target again. The workload never waits.
    """

    def __init__(
        self, directory: bytes, job: str, index: TreeIndex, cap: int, memory: int, on_collapse: Callable[[str], None]
    ) -> None:
        self.lock = threading.RLock()
        self._directory = directory
        self._lost: list[int] = []
        self.spool = Spool(directory, job, cap, memory=memory, on_elided=self._lost.extend)
        self.index = index
        self.spool.folded(index.lsn)
        self._on_collapse = on_collapse
        self.urgency = Urgency()
        self.position: Callable[[], int] = lambda: 0
        self.late = 0
        self.reached = self.passed = 0
        self.read: dict[int, int] = {}

    def recover(self) -> bool:
        """Fold what the spool has beyond the index (a crash between the two). False: the log is shorter than the index
        (a power cut took its unsynced tail), or it was given up since (`quarantine`, a crash in `collapse`), so the
        index knows what nobody can replay, or it begins behind what the index knows: compare everything again."""
        if self.index.lsn > self.spool.last_lsn or self.index.lsn + 1 < self.spool.oldest_lsn:
            return False
        given_up = False

        def beyond() -> Iterator[Record]:
            nonlocal given_up
            for record in iterate(self._directory, self.index.lsn + 1):
                body = record.body
                given_up = given_up or (isinstance(body, Gap) and not body.oid and body.reason == "spool")
                yield record

        self.index.refold(beyond())
        if given_up:
            return False
        self.commit()
        return True

    def emit(self, records: list[Record], late: bool = True) -> list[int]:
        """Sequence, spool and fold. Returns the objects whose content the full spool dropped. ``late`` False: these
        records were told by the capture, in order, and say nothing of what came after them."""
        with self.lock:
            if late:
                self.late = self.position()
                if self.late:
                    self.read.update((r.body.oid, self.late) for r in records if r.kind in _READ)  # type: ignore[union-attr]
            try:
                self.spool.append(records)
            except SpoolFullError as error:
                self.collapse(str(error))
                self.spool.append(records)
            self.index.apply(records)
            if not self._lost:
                return self._lost
            lost = self._lost.copy()
            self._lost.clear()
            for oid in lost:
                self.index.forget(oid)
            return lost

    def wait_room(self, nbytes: int, timeout: float) -> bool:
        """As `Spool.wait_room`, behind what cannot wait."""
        self.urgency.give_way()
        return self.spool.wait_room(nbytes, timeout)

    def caught_up(self, passed: int) -> None:
        """The log has all that was told up to ``passed``."""
        with self.lock:
            self.passed = passed
            if self.read:
                self.read = {oid: position for oid, position in self.read.items() if position > passed}

    def put(self, kind: Kind, body: Body, payload: bytes | memoryview = b"", time: int = 0) -> int:
        record = Record(kind, body, payload, time)
        self.emit([record])
        return record.lsn

    def collapse(self, reason: str, at_least: int = 0) -> None:
        """Give the log up. LSNs go on above ``at_least``."""
        with self.lock:
            lsn = self.spool.collapse(at_least, "spool", reason)
            self.index.clear(lsn)
            self._on_collapse(reason)

    def commit(self) -> None:
        """Make the index durable up to what the synced spool holds."""
        self.spool.sync()  # the long part, outside the lock
        with self.lock:
            self.spool.sync()
            self.index.commit()
            lsn = self.index.lsn
        self.spool.folded(lsn)

    def close(self) -> None:
        with self.lock:
            self.commit()
            self.index.close()
            self.spool.close()


def set_aside(directory: bytes) -> bytes:
    """Before an agent starts: take a log or an index that cannot be read out of its way. Where the log is now, or b"".

    The next start gives the log up (`Journal.recover`), walks everything and compares both trees whole.
    """
    for name in (b"index.sqlite", b"index.sqlite-wal", b"index.sqlite-shm"):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))
    spool = os.path.join(directory, b"spool")
    return quarantine(spool) if os.path.isdir(spool) else b""
