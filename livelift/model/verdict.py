"""What a verification found."""

from __future__ import annotations

from typing import Any, NamedTuple


class Verdict(NamedTuple):
    """``listing``: the first differences in words. ``found``: the differences themselves, for the repair."""

    differences: int
    listing: list[str]
    report: dict[str, Any]
    found: list[Any]
