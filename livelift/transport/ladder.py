"""Which zstd level pays right now. Pure: a sample of the last half second in, a step on the ladder out.

A level pays when the link is what everybody waits for, and packing at that level, on the cores that are idle, still
outruns it: ``min(speed x cores, link x ratio)`` must beat the present throughput. A receiver that cannot write any
faster is not a slow link: there compression only costs.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Rung(NamedTuple):
    """``level`` as zstd counts; 0 stands for off. Speed in raw bytes per CPU second and ratio are priors, measured on
    64 MiB of text-like data (one Zen 5 core); the first is corrected by what this machine really does."""

    level: int
    speed: float
    ratio: float


LADDER: Final = (
    Rung(0, 1e12, 1.0),
    Rung(-5, 500e6, 2.14),
    Rung(-1, 420e6, 2.5),
    Rung(1, 362e6, 2.79),
    Rung(3, 247e6, 3.26),
)

BLOCKED: Final = 0.5  # share of the time blocked by the link above which a step up is weighed
RELAXED: Final = 0.1  # and below which a step down is taken
GAIN: Final = 1.1  # a step up must promise this much
ENOUGH: Final = 1 << 20  # bytes; an idle link tells nothing


class Sample(NamedTuple):
    """What the lanes of a channel did. ``blocked``: share (0..1) of their time spent waiting for the link itself,
    neither
    computing nor waiting for a receiver that does not read. ``packing_rate``: raw bytes packed per CPU second, 0
    unknown."""

    seconds: float
    raw: int
    wire: int
    blocked: float
    packing_rate: float
    idle_cores: float
    lanes: int


def step(rung: int, sample: Sample) -> int:
    """Index of the rung to use next: the same, one up or one down."""
    if sample.raw < ENOUGH or sample.seconds <= 0:
        return rung
    if sample.blocked < RELAXED:
        return max(rung - 1, 0)
    if sample.blocked < BLOCKED or rung + 1 >= len(LADDER):
        return rung
    here, above = LADDER[rung], LADDER[rung + 1]
    machine = sample.packing_rate / here.speed if rung and sample.packing_rate else 1.0
    cores = min(sample.lanes, sample.idle_cores)
    link = sample.wire / sample.seconds
    promise = min(above.speed * machine * cores, link * _ratio_above(sample, here, above))
    return rung + 1 if promise > GAIN * sample.raw / sample.seconds else rung


def _ratio_above(sample: Sample, here: Rung, above: Rung) -> float:
    """What this data compressed to, stretched as the priors stretch: incompressible data stays so on every rung."""
    if here.level == 0:
        return above.ratio  # unknown; a probe of each chunk will tell
    now = sample.raw / max(sample.wire, 1)
    return 1 + (now - 1) * (above.ratio - 1) / (here.ratio - 1)
