"""Serves until SIGTERM."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from tests.system.banks import BANKS, Acknowledged

stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
BANKS[sys.argv[1]](Path(sys.argv[2])).serve(Acknowledged(Path(sys.argv[3])), stop)
