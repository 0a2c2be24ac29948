"""The writer of the changes case, a process of its own: ``python -m benchmarks.writer DIRECTORY SECONDS``.

Prints one JSON object: when each probe's write had returned (CLOCK_MONOTONIC), when the last one had, the rate kept.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from benchmarks.changes import FILES, PROBE_EVERY, RATE


def main(source: Path, duration: int) -> None:
    probes: list[float] = []
    started = time.monotonic()
    for number in range(duration * RATE):
        ahead = started + number / RATE - time.monotonic()
        if ahead > 0.001:
            time.sleep(ahead)
        if number % PROBE_EVERY == 0:
            probe = number // PROBE_EVERY
            path, content = source / f"{probe % 30}" / f"probe-{probe}", b"%016d" % (probe + 1) + b"q" * 1008
        else:
            path, content = (
                source / f"{number % FILES % 30}" / f"file-{number % FILES}",
                b"%016d" % number + b"r" * 1008,
            )
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
        os.write(fd, content)
        os.close(fd)
        if number % PROBE_EVERY == 0:
            probes.append(time.monotonic())
    end = time.monotonic()
    json.dump({"probes": probes, "end": end, "rate": duration * RATE / (end - started)}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
