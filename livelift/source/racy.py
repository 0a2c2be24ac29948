"""Which stamps tell nothing, because what changes next may leave them as they are."""

from __future__ import annotations

from typing import Final

from livelift.platform.system import stamp_clock

RACY: Final = 20_000_000
"""ns: longer than a tick of the clock that change times are taken from (10 ms at HZ=100, 16 on Windows)."""

__all__ = ["RACY", "is_racy", "stamp_clock"]


def is_racy(ctime: int, began: int) -> bool:
    """Whether an object with this ctime may change again within the same tick after it was read. So its stamp is not
    kept, and a rescan reads it again (git calls such an entry racy). ``began``: `stamp_clock` before the first look at
    the object, attributes or content: by a clock that is asked later a change during a long reading would be missed."""
    return ctime >= began - RACY
