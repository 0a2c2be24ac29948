"""The source's own ceiling: the readers slow down when the workload stalls, or when they would use more CPU than
allowed.

Pressure-stall information (Documentation/accounting/psi.rst) of the workload's own cgroups where there is such
(cgroup v2), else of the whole machine; there our own reading counts as well, so a limit is only in force when it was
asked for.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from livelift.platform.linux.pressure import pressure
from livelift.source.config import SourceConfig

EVERY = 0.5
LOWEST = 0.1
"""Readers never stop wholly: at a tenth a migration still ends."""
CGROUP_LIMIT = 40.0
"""Percent of time (10 s average) that some task of the workload waited for I/O or CPU, from which on we give way."""


class Throttled(Protocol):
    duty: float  # 1.0: no pause; 0.5: as long asleep as at work

    @property
    def cpu(self) -> float: ...  # seconds used by processes of its own


class Governor:
    def __init__(self, config: SourceConfig, readers: Sequence[Throttled]) -> None:
        self._readers = readers
        self._cpu_limit = config.cpu_limit
        groups = [os.fsdecode(g) for g in config.fence if os.path.exists(g + b"/io.pressure")]
        self._sources = groups or ["/proc/pressure"]
        self._limit = config.pressure_limit or (CGROUP_LIMIT if groups else 0.0)
        self.duty = 1.0
        self.stalled = 0.0

    def describe(self) -> str:
        parts = []
        if self._limit:
            parts.append(f"gives way above {self._limit:g} % stall in {', '.join(self._sources)}")
        if self._cpu_limit:
            parts.append(f"at most {self._cpu_limit:g} % of one core")
        return "; ".join(parts) or "lowest priority, no ceiling"

    def run(self, stop: threading.Event) -> None:
        last_cpu, last = self._used(), time.monotonic()
        while not stop.wait(EVERY):
            cpu, now = self._used(), time.monotonic()
            used = 100.0 * (cpu - last_cpu) / max(now - last, 0.001)
            last_cpu, last = cpu, now
            self.step(used, self._stall())
            for reader in self._readers:
                reader.duty = self.duty

    def _used(self) -> float:
        return time.process_time() + sum(reader.cpu for reader in self._readers)

    def step(self, cpu: float, stall: float) -> None:
        """New duty from CPU percent used and percent stalled: down by half when over, up by a tenth when under."""
        self.stalled = stall
        over = bool(self._limit and stall > self._limit) or bool(self._cpu_limit and cpu > self._cpu_limit)
        self.duty = max(self.duty / 2, LOWEST) if over else min(self.duty * 1.1 + 0.01, 1.0)

    def _stall(self) -> float:
        if not self._limit:
            return 0.0
        worst = 0.0
        for directory in self._sources:
            for resource in ("io",) if directory != "/proc/pressure" else ("io", "cpu"):
                name = resource if directory == "/proc/pressure" else f"{resource}.pressure"
                found = pressure(name, directory)
                if found is not None:
                    worst = max(worst, found.some)
        return worst
