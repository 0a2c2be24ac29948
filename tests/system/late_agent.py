"""The command line of Livelift, but between the fence and the drain it waits for a moment: what a test does meanwhile
is what the workload did just before the fence, on a machine that has heard of it and has not come to read it yet. And
the directories that it held open are others by now, as where there are many.

``LIVELIFT_LATE``: a directory; ``reached`` is made in it, and ``go`` is waited for.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from livelift.cli.main import main
from livelift.source.cutting import Cutting

drain = Cutting.drain


def drain_later(self: Cutting, deadline: float) -> None:
    place, still = Path(os.environ["LIVELIFT_LATE"]), self.agent.changes.still
    still.set()
    (place / "reached").touch()
    while not (place / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert self.agent.follower.sync(self.agent.capture, 30)
    for oid in list(self.agent.live._open):
        self.agent.live.forget(oid)
    still.clear()
    drain(self, deadline)


if __name__ == "__main__":
    Cutting.drain = drain_later  # type: ignore[method-assign]
    sys.exit(main())
