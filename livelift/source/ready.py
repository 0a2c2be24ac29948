"""What has been read and is to go into the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from livelift.model.record import Record


class Ready(NamedTuple):
    """What has been read of a small object. Both are called with the merge lock held: ``records`` gives what goes into
    the log by what is known then, ``after`` is told which objects lost their content to a full spool. ``bracket``: it
    has one, which is open."""

    records: Callable[[], list[Record]]
    after: Callable[[list[int]], None]
    bracket: bool = True
