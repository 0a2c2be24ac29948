"""How many times longer everything may take here: in an emulated machine, 10."""

from __future__ import annotations

import os
from typing import Final

SLOW: Final = float(os.environ.get("LIVELIFT_SLOW", "1"))
