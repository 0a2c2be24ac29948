"""Which control set the next boot uses: the merged one, also as "last known good"."""

from __future__ import annotations

from livelift.adapt.windows.bench import Bench, Rule

REASON = (
    "only the merged control set fits the target's hardware; a stale last-known-good set would boot an unmerged one"
)


def plan(bench: Bench) -> None:
    number = bench.source.current
    for name in ("Current", "Default", "LastKnownGood"):
        bench.set_number(f"control-sets/{name.lower()}", REASON, "Select", name, number)
    bench.set_number("control-sets/failed", "no set has failed yet", "Select", "Failed", 0)


RULE = Rule(
    id="control-sets",
    touches=r"Select: Current, Default, LastKnownGood, Failed",
    does="The source's current control set is merged; all of Select names it, Failed is 0.",
    why="A failed boot falls back to LastKnownGood: an unmerged set has the source's devices and drivers.",
    evidence="Windows 7 hives have two sets, later ones one (measured); use of LastKnownGood: general knowledge.",
    plan=plan,
)
