"""What a client saw of a service: pure accounting of requests, failures and the longest time without an answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

KINDS: Final = 5
"""Different failures that are told by name, the most frequent first."""


class Request(NamedTuple):
    """``began``, ``ended``: seconds of one clock. ``failure``: what went wrong; empty for an answer."""

    began: float
    ended: float
    failure: str = ""


class Report(NamedTuple):
    """``gap``: the longest time between two answers (or between an end of the watch and the nearest answer), from
    ``gap_began``; ``usual``: the median of those times, which is the pace of the watch itself."""

    target: str
    seconds: float
    requests: int
    failures: int
    gap: float
    gap_began: float
    usual: float
    kinds: tuple[tuple[str, int], ...]

    def to_dict(self) -> dict[str, Any]:
        return {**self._asdict(), "kinds": dict(self.kinds)}

    def text(self) -> str:
        """A line, and one for each kind of failure."""
        lines = [
            f"{self.target}: {self.requests} requests in {self.seconds:.1f} s, {self.failures} failed; longest time "
            f"without an answer {self.gap:.2f} s (usual: {self.usual:.2f} s)"
        ]
        return "\n".join(lines + [f"    {count} x {kind}" for kind, count in self.kinds])


def account(target: str, requests: Sequence[Request], began: float, ended: float) -> Report:
    """``requests``: in the order in which they ended. ``began``, ``ended``: of the watch, by the same clock."""
    answers = [r.ended for r in requests if not r.failure]
    marks = [began, *answers, ended]
    gaps = [(later - earlier, earlier) for earlier, later in pairwise(marks)]
    gap, since = max(gaps)
    inner = sorted(gap for gap, _ in gaps[1:-1]) or [gap]
    kinds = Counter(r.failure for r in requests if r.failure)
    return Report(
        target,
        round(ended - began, 3),
        len(requests),
        sum(kinds.values()),
        round(gap, 3),
        round(since - began, 3),
        round(inner[len(inner) // 2], 3),
        tuple(kinds.most_common(KINDS)),
    )
