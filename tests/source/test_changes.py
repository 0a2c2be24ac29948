"""The reader of changes in trouble."""

from __future__ import annotations

import errno
import threading
from types import SimpleNamespace

from livelift.source.changes import MAX_TRIES, Changes
from livelift.source.dirty import Dirty, Mark


def test_a_name_that_cannot_be_looked_at_is_a_gap_and_not_gone():
    """An I/O error says nothing about whether the file is there: it must not be taken out of the replica."""

    def look(parent: int, name: bytes) -> None:
        raise OSError(errno.EIO, "Input/output error")

    gaps: list[tuple[int, str]] = []
    settled: list[object] = []
    changes = object.__new__(Changes)
    index = SimpleNamespace(lookup=lambda parent, name: 7)
    changes._journal = SimpleNamespace(lock=threading.RLock(), index=index)
    changes._live = SimpleNamespace(look=look)
    changes._gaps = SimpleNamespace(open=lambda oid, reason, detail: gaps.append((oid, reason)))
    changes._follower = SimpleNamespace(settle=lambda *what: settled.append(what))
    lane = Dirty(lambda: 0.0)
    changes._missing(7, (2, b"f"), Mark(True, 0, None, MAX_TRIES), lane)
    assert gaps == [(7, "unreadable")]
    assert not settled
    assert len(lane) == 1, "it is tried again"
