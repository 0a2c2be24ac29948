"""Steps with their undo, on a stack: before the point of no return every failure leads back, last step first.

(convert2rhel taught the shape: a restore that fails does not stop the other restores, and is told.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from typing import NamedTuple

log = logging.getLogger(__name__)

Act = Callable[[], None]


class Step(NamedTuple):
    """``do`` carries it out; ``undo`` takes it back (None: there is nothing to take back). ``at_once``: what of the
    undo cannot wait for that of the later steps: the workload stands still."""

    name: str
    do: Act
    undo: Act | None = None
    at_once: Act | None = None


def run(steps: list[Step]) -> Generator[str, None, None]:
    """Carry the steps out, yielding each name before it begins. On any failure the undos of the begun steps run, newest
    first, those at once before all others, and the failure goes on to the caller."""
    begun: list[Step] = []
    try:
        for step in steps:
            begun.append(step)
            yield step.name
            step.do()
    except BaseException:
        begun.reverse()
        for name, undo in [(s.name, s.at_once) for s in begun] + [(s.name, s.undo) for s in begun]:
            if undo is None:
                continue
            try:
                undo()
            except Exception:
                log.exception("undo of %s failed", name)
        raise
