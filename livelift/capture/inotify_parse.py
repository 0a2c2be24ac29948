"""What inotify(7) wrote into our buffer: `struct inotify_event` as tuples. Pure: bytes in, tuples out."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

_EVENT = Struct("=iIII")  # wd, mask, cookie, len


class RawEvent(NamedTuple):
    """``name`` is empty for an event on the watched object itself."""

    watch: int
    mask: int
    cookie: int
    name: bytes


def parse(buffer: bytes) -> tuple[list[RawEvent], bool]:
    """Every event in ``buffer`` in order, and whether the buffer was whole (the kernel never splits an event)."""
    events: list[RawEvent] = []
    at, size = 0, len(buffer)
    while at < size:
        if size - at < 16:
            return events, False
        watch, mask, cookie, length = _EVENT.unpack_from(buffer, at)
        names = at + 16
        at = names + length
        if at > size:
            return events, False
        events.append(RawEvent(watch, mask, cookie, buffer[names:at].partition(b"\0")[0]))
    return events, True
