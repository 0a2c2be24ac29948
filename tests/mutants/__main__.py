"""``python -m tests.mutants [WORD]``: run the seeded faults (those with WORD in their name) and say who survives."""

from __future__ import annotations

import sys
import time

from tests.mutants.faults import FAULTS
from tests.mutants.runner import control, run_all


def main() -> int:
    word = " ".join(sys.argv[1:])
    faults = [fault for fault in FAULTS if word in fault.name]
    if trouble := control(faults):
        print(f"the tests fail without any fault:\n{trouble}")
        return 2
    began = time.monotonic()
    survivors = 0
    for outcome in run_all(faults):
        survivors += not outcome.killed
        print(f"{'killed  ' if outcome.killed else 'SURVIVED'} {outcome.seconds:5.1f} s  {outcome.fault.name}")
        if outcome.detail:
            print("    " + outcome.detail.replace("\n", "\n    "))
    print(f"{len(faults) - survivors} of {len(faults)} killed in {time.monotonic() - began:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
