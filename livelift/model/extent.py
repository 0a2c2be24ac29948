"""A run of data. Nothing but the standard library: the take-over stage loads it too."""

from __future__ import annotations

from typing import NamedTuple


class Extent(NamedTuple):
    """A run of bytes that holds data (the rest of the file is a hole). Bytes, not blocks."""

    offset: int
    length: int
