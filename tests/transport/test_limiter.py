from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livelift.errors import UsageError
from livelift.transport.limiter import BURST, Limiter, Schedule, Window, parse_schedule

HOUR = 3600


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("20M", {0: 20e6, 12 * HOUR: 20e6}),
        ("08:00-18:00=5M,20M", {7 * HOUR: 20e6, 8 * HOUR: 5e6, 18 * HOUR - 1: 5e6, 18 * HOUR: 20e6}),
        ("22:00-06:00=off, 1G", {23 * HOUR: None, 0: None, 6 * HOUR: 1e9}),
        ("09:00-10:00=64Ki", {9 * HOUR: 65536.0, 10 * HOUR: None}),
        ("1.5MB/s", {0: 1.5e6}),
        ("20:00-24:00=1m,2m", {20 * HOUR: 1e6, 24 * HOUR - 1: 1e6, 0: 2e6}),
        ("off", {0: None}),
        ("", {0: None}),
    ],
)
def test_schedules(text, rates):
    schedule = parse_schedule(text)
    assert {second: schedule.rate_at(second) for second in rates} == rates


NONSENSE = ["fast", "5X", "25:00-26:00=1M", "08:70-09:00=1M", "08:00-09:00", "-5M", "10", "24:30-01:00=1M"]


@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_is_a_usage_error(text):
    with pytest.raises(UsageError):
        parse_schedule(text)


@given(st.text(max_size=30))
def test_any_text_is_a_schedule_or_a_usage_error(text):
    try:
        parse_schedule(text).rate_at(0)
    except UsageError:
        pass


class Time:
    """A clock that only moves when somebody waits."""

    def __init__(self):
        self.now = 0.0
        self.day = 0

    def wait(self, seconds):
        assert 0 < seconds <= 1.0
        self.now += seconds
        return False


@given(st.lists(st.integers(1, 200_000), min_size=1, max_size=60))
def test_never_more_than_rate_and_burst(sizes):
    rate, time = 1e6, Time()
    limiter = Limiter(Schedule((Window(0, 0, rate),)), lambda: time.now, lambda: 0)
    gone = 0
    for size in sizes:
        limiter.take(size, time.wait)
        gone += size
        assert gone <= rate * (time.now + BURST) + size
    assert time.now <= gone / rate + 0.001 * len(sizes)  # and not slower than needed


def test_schedule_may_change_while_somebody_waits():
    time = Time()
    limiter = Limiter(parse_schedule("2K"), lambda: time.now, lambda: 0)
    limiter.take(1 << 20, time.wait)  # debt of eight minutes

    def wait(seconds):
        limiter.set_schedule(parse_schedule("off"))
        return time.wait(seconds)

    limiter.take(1 << 20, wait)
    assert time.now <= 1.0


def test_giving_up_ends_the_wait():
    limiter = Limiter(parse_schedule("2K"), lambda: 0.0, lambda: 0)
    over = threading.Event()
    over.set()
    for _ in range(3):
        limiter.take(1 << 20, over.wait)


def test_grain_follows_the_rate():
    for text, grain in (("2K", 16 << 10), ("1M", 100_000), ("1G", 256 << 10), ("off", None)):
        assert Limiter(parse_schedule(text), lambda: 0.0, lambda: 0).grain == grain


def test_control_traffic_is_charged():
    time = Time()
    limiter = Limiter(parse_schedule("1M"), lambda: time.now, lambda: 0)
    limiter.charge(500_000)
    limiter.take(1, time.wait)
    assert time.now == pytest.approx(0.5)
