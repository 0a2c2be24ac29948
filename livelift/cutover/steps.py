"""Steps with their undo, on a stack: before the point of no return every failure leads back, last step first.

(convert2rhel taught the shape: a restore that fails does not stop the other restores, and is told.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

log = logging.getLogger(__name__)


class Step(NamedTuple):
    """``do`` carries it out; ``undo`` takes it back (None: there is nothing to take back)."""

    name: str
    do: Callable[[], None]
    undo: Callable[[], None] | None = None


def run(steps: list[Step]) -> Iterator[str]:
    """Carry the steps out, yielding each name before it begins. On any failure the undos of the begun steps run, newest
    first, and the failure goes on to the caller."""
    undos: list[Step] = []
    try:
        for step in steps:
            undos.append(step)
            yield step.name
            step.do()
    except BaseException:
        for step in reversed(undos):
            if step.undo is None:
                continue
            try:
                step.undo()
            except Exception:
                log.exception("undo of %s failed", step.name)
        raise
