"""Making good what a broken link swallowed."""

from __future__ import annotations

import stat
import threading
from types import SimpleNamespace

from livelift.source.healer import Healer


def test_a_number_that_a_directory_has_by_now_is_not_read_again_as_the_file_it_was():
    """ext4 gives the number of a removed file to the next directory. A gap of that would never close: a directory has
    no content that could be read again (it took the wait for `caught up` to its end)."""
    modes = {7: stat.S_IFDIR, 8: stat.S_IFREG, 9: 0}
    gaps: list[int] = []
    marked: list[int] = []
    index = SimpleNamespace(type_of=modes.__getitem__)
    agent = SimpleNamespace(
        journal=SimpleNamespace(lock=threading.RLock(), index=index),
        gaps=SimpleNamespace(open=lambda oid, reason: gaps.append(oid)),
        dirty=SimpleNamespace(add=lambda oid, content: marked.append(oid)),
    )
    Healer(agent).reread([7, 8, 9, 8])  # type: ignore[arg-type]
    assert gaps == [8] == marked
