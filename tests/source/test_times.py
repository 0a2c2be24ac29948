"""Which directories are read again for their times."""

from __future__ import annotations

import os
import stat
import threading
from types import SimpleNamespace
from typing import Any

from livelift.index.tree import TreeIndex
from livelift.merge.brackets import Brackets
from livelift.model.entry import Attributes, limbo
from livelift.model.record import Kind, Make, Record
from livelift.source.times import tell_times


def test_what_only_the_replay_has_dated_is_read_again_but_not_what_is_in_limbo_or_gone(tmp_path):
    marked: list[tuple[int, bool]] = []
    index = TreeIndex(os.fsencode(tmp_path / "index"))
    directory = Attributes(stat.S_IFDIR | 0o755, 0, 0, 0, 1, 1, 1)
    for oid, parent in ((1, 0), (2, 1), (3, limbo(0)), (4, 3), (5, 1)):
        index.apply([Record(Kind.MKDIR, Make(oid, parent, b"%d" % (oid - 1), directory))])
    index.untimed.clear()
    index.untimed.update((0, limbo(0), 2, 4, 5, 99))
    brackets: Brackets[Any] = Brackets()
    brackets.open(5)
    journal: Any = SimpleNamespace(lock=threading.RLock(), index=index)
    dirty: Any = SimpleNamespace(add=lambda oid, content: marked.append((oid, content)))
    tell_times(journal, brackets, dirty)
    assert marked == [(2, False)]
    assert index.untimed == {2, 4, 5}, "what may be marked later stays"
    index.close()
