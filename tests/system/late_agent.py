"""The command line of Livelift, but between the fence and the drain it waits for a moment: what a test does meanwhile
is what the workload did just before the fence, on a machine that has not come to look at it yet.

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
    place = Path(os.environ["LIVELIFT_LATE"])
    (place / "reached").touch()
    while not (place / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    drain(self, deadline)


if __name__ == "__main__":
    Cutting.drain = drain_later  # type: ignore[method-assign]
    sys.exit(main())
