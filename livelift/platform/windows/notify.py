"""FILE_NOTIFY_INFORMATION: what ReadDirectoryChangesW fills in (winnt.h). Pure and bounded."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from livelift.platform.windows.names import to_bytes

ADDED: Final = 1
REMOVED: Final = 2
MODIFIED: Final = 3
RENAMED_OLD: Final = 4
RENAMED_NEW: Final = 5
STREAM_ADDED: Final = 6
STREAM_REMOVED: Final = 7
STREAM_MODIFIED: Final = 8


class Notice(NamedTuple):
    """``path``: below the watched directory, parts divided by backslashes, as bytes (`names`)."""

    action: int
    path: bytes


def parse_notices(raw: bytes) -> list[Notice]:
    """All notices of one buffer. ValueError: it is damaged; what came before the damage is lost with it."""
    found: list[Notice] = []
    at = 0
    while raw:
        if at + 12 > len(raw):
            raise ValueError("a notice reaches beyond the buffer")
        step, action, length = struct.unpack_from("<III", raw, at)
        if at + 12 + length > len(raw) or (step and step < 12 + length):
            raise ValueError("a notice's name reaches beyond its end")
        found.append(Notice(action, to_bytes(raw[at + 12 : at + 12 + length])))
        if not step:
            break
        at += step
    return found
