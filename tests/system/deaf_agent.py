"""The command line of Livelift, but of what the capture tells a part is not heard, and nobody says so.

What a mode loses is told as a loss and read again; this is about what no one knows of. The listing of everything before
the fence, which would find most of it, is left out: the closing verification is to find it, and to make it good.
``LIVELIFT_DEAF``: the share of events that are not heard.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterable

from livelift.cli.main import main
from livelift.ports import Event, Lost, Synced
from livelift.source.cutting import Cutting
from livelift.source.follower import Follower

SHARE = float(os.environ.get("LIVELIFT_DEAF", "0.1"))

chooser = random.Random(1)
process, prepare = Follower.process, Cutting.prepare


def process_some(self: Follower, events: Iterable[Event]) -> None:
    process(self, [e for e in events if isinstance(e, Synced | Lost) or chooser.random() >= SHARE])


def prepare_without_a_listing(self: Cutting, deadline: float) -> None:
    walker = self.agent.walker
    add = walker.add
    walker.add = lambda oid, deep: add(oid, deep) if oid else None  # type: ignore[method-assign]
    try:
        prepare(self, deadline)
    finally:
        walker.add = add  # type: ignore[method-assign]


if __name__ == "__main__":
    Follower.process, Cutting.prepare = process_some, prepare_without_a_listing  # type: ignore[method-assign]
    sys.exit(main())
