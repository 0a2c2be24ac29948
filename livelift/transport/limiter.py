"""The bandwidth limit: a schedule of bytes per second over the day, and the token bucket that keeps to it.

    "20M"                       always 20 MB/s
    "08:00-18:00=5M,20M"        5 MB/s in office hours, else 20 MB/s; the first window that fits counts
    "22:00-06:00=off,1G"        no limit at night (a window may pass midnight)

Units are bytes per second, powers of 1000 (K M G) or of 1024 (Ki Mi Gi), as for rates everywhere (rsync --bwlimit
differs).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from livelift.errors import UsageError

DAY: Final = 24 * 3600
BURST: Final = 0.1  # seconds of the rate that may go at once
GRAIN: Final = (16 << 10, 256 << 10)  # bytes asked for at once: least and most

_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?(?:/s)?", re.IGNORECASE)
_WINDOW: Final = re.compile(r"(\d\d?):(\d\d)-(\d\d?):(\d\d)=(.+)")
_POWERS: Final = {"k": 1, "m": 2, "g": 3, "t": 4}


class Window(NamedTuple):
    """``start`` and ``end``: seconds of the local day; equal = the whole day. ``rate``: bytes/s, None = no limit."""

    start: int
    end: int
    rate: float | None

    def holds(self, second: int) -> bool:
        if self.start < self.end:
            return self.start <= second < self.end
        return second >= self.start or second < self.end


class Schedule(NamedTuple):
    windows: tuple[Window, ...]

    def rate_at(self, second: int) -> float | None:
        """The limit in bytes/s at this second of the local day, or None."""
        for window in self.windows:
            if window.holds(second % DAY):
                return window.rate
        return None


def parse_schedule(text: str) -> Schedule:
    """UsageError says which part is not understood."""
    windows = []
    for part in filter(None, map(str.strip, text.split(","))):
        match = _WINDOW.fullmatch(part)
        if match:
            start, end = _second(match[1], match[2], part), _second(match[3], match[4], part)
            windows.append(Window(start, end, _rate(match[5], part)))
        else:
            windows.append(Window(0, 0, _rate(part, part)))
    return Schedule(tuple(windows))


def _rate(text: str, part: str) -> float | None:
    if text.strip().lower() in ("off", "none", "unlimited"):
        return None
    match = _RATE.fullmatch(text.strip())
    if not match:
        raise UsageError(f"bandwidth limit {part!r} is not understood", remedy='write it as "08:00-18:00=5M,20M"')
    unit = (match[2] or "").lower()
    base = 1024.0 if unit.endswith("i") else 1000.0
    rate: float = float(match[1]) * base ** (_POWERS[unit[0]] if unit else 0)
    if rate < 1024:
        raise UsageError(f"bandwidth limit {part!r} is below 1 KiB/s", remedy="to stop a transfer, pause the job")
    return rate


def _second(hour: str, minute: str, part: str) -> int:
    if int(hour) > 24 or int(minute) > 59 or int(hour) * 60 + int(minute) > 24 * 60:
        raise UsageError(f"bandwidth limit {part!r} names no time of the day", remedy="times go from 00:00 to 24:00")
    return (int(hour) * 60 + int(minute)) * 60 % DAY


class Limiter:
    """A token bucket over all lanes of a channel. ``monotonic``: seconds; ``day_second``: second of the local day;
    ``wait(seconds)`` returns True when the transfer was given up meanwhile. Threads share it."""

    def __init__(
        self,
        schedule: Schedule,
        monotonic: Callable[[], float],
        day_second: Callable[[], int],
    ) -> None:
        self._schedule = schedule
        self._monotonic = monotonic
        self._day_second = day_second
        self._lock = threading.Lock()
        self._tokens = 0.0
        self._filled = monotonic()

    def set_schedule(self, schedule: Schedule) -> None:
        """From the next piece on."""
        with self._lock:
            self._schedule = schedule

    @property
    def grain(self) -> int | None:
        """Into which pieces to cut what is sent, so that the flow is even; None: no limit now."""
        rate = self._schedule.rate_at(self._day_second())
        return None if rate is None else max(GRAIN[0], min(GRAIN[1], int(rate * BURST)))

    def take(self, size: int, wait: Callable[[float], bool]) -> None:
        """Wait until ``size`` bytes may go. Debt is allowed once, so a piece larger than the burst passes too."""
        while True:
            with self._lock:
                rate = self._schedule.rate_at(self._day_second())
                now = self._monotonic()
                if rate is None:
                    self._filled, self._tokens = now, 0.0
                    return
                self._tokens = min(rate * BURST, self._tokens + (now - self._filled) * rate)
                self._filled = now
                if self._tokens >= 0:
                    self._tokens -= size
                    return
                # Not longer than a second: the schedule may change meanwhile. Not below what a clock can tell.
                pause = max(0.001, min(1.0, -self._tokens / rate))
            if wait(pause):
                return

    def charge(self, size: int) -> None:
        """Control traffic: counted, never held up."""
        with self._lock:
            self._tokens -= size
