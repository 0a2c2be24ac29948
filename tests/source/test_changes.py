"""The reader of changes in trouble."""

from __future__ import annotations

import errno
import stat
import threading
from types import SimpleNamespace

from livelift.merge.names import Seen
from livelift.model.entry import Attributes
from livelift.model.record import Kind
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
    changes._journal = SimpleNamespace(lock=threading.RLock(), index=index, position=lambda: 0)
    changes._live = SimpleNamespace(look=look)
    changes._gaps = SimpleNamespace(open=lambda oid, reason, detail: gaps.append((oid, reason)))
    changes._follower = SimpleNamespace(settle=lambda *what: settled.append(what))
    lane = Dirty(lambda: 0.0)
    changes._missing(7, (2, b"f"), Mark(True, 0, None, MAX_TRIES), lane)
    assert gaps == [(7, "unreadable")]
    assert not settled
    assert len(lane) == 1, "it is tried again"


def test_what_was_somewhere_else_eight_times_and_is_back_is_still_read():
    """It moved to and fro. Nothing is to be said of its name, but what it was marked for has not been done."""
    changes = object.__new__(Changes)
    index = SimpleNamespace(lookup=lambda parent, name: 7, place=lambda oid: (2, b"f"))
    changes._journal = SimpleNamespace(lock=threading.RLock(), index=index, position=lambda: 0)
    changes._live = SimpleNamespace(look=lambda parent, name: Seen(7, Attributes(0o100644, 0, 0, 4, 0, 0, 0)))
    changes._follower = SimpleNamespace(settle=lambda *what: None)
    lane = Dirty(lambda: 0.0)
    changes._missing(7, (2, b"f"), Mark(False, 5, None, MAX_TRIES), lane)
    assert len(lane) == 1


def test_a_file_with_a_name_that_is_still_to_go_is_written_in_place():
    """Its other name is unlinked, which the log does not say yet: one record for the whole file would replace this name
    on the target by another file, and change the times of its directory behind that directory's last record."""
    changes = object.__new__(Changes)
    changes._bytes = 0
    places = [(2, b"one"), (3, b"two")]
    index = SimpleNamespace(place=lambda oid: places[0], places=lambda oid: places, type_of=lambda oid: stat.S_IFREG)
    changes._journal = SimpleNamespace(lock=threading.RLock(), index=index)
    attributes = Attributes(0o100644, 0, 0, 4, 0, 0, 0)
    mark = Mark(True, 5, None, 0)
    made = changes._whole(7, attributes, [], mark, 0, 0, b"text")
    assert [r.kind for r in made.records()] == [Kind.TRUNCATE, Kind.WRITE, Kind.ATTRIBUTES]
    del places[1]
    made = changes._whole(7, attributes, [], mark, 0, 0, b"text")
    (record,) = made.records()
    assert record.kind is Kind.FILE and record.payload == b"text"


def test_what_was_read_of_another_object_with_this_number_is_not_said():
    """The number became a directory's between the reading and the log: it is read again."""
    changes = object.__new__(Changes)
    changes._bytes, changes._dirty = 0, Dirty(lambda: 0.0)
    index = SimpleNamespace(place=lambda oid: (2, b"f"), type_of=lambda oid: stat.S_IFDIR)
    changes._journal = SimpleNamespace(lock=threading.RLock(), index=index)
    made = changes._whole(7, Attributes(0o100644, 0, 0, 4, 0, 0, 0), [], Mark(True, 5, None, 0), 0, 0, b"text")
    assert made.records() == []
    assert len(changes._dirty) == 1
    made.after([])  # reaches for nothing that is not here: no gap is closed, no stamp touched
