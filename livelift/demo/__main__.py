"""``python -m livelift.demo``: the same as ``livelift demo``."""

from __future__ import annotations

import sys

from livelift.demo.run import main

if __name__ == "__main__":
    sys.exit(main())
