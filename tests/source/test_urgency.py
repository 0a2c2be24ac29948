"""Giving way ends with the urgency, or after its time."""

from __future__ import annotations

from livelift.source.urgency import MOST, STEP, Urgency
from tests.source.fakes import Time


def test_nobody_waits_where_there_is_no_urgency():
    def never(seconds: float) -> None:
        raise AssertionError

    Urgency(Time(), never).give_way()


def test_until_there_is_none_any_more():
    time, waited = Time(), []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        time.value += seconds
        urgency.high = len(waited) < 3

    urgency = Urgency(time, sleep)
    urgency.high = True
    urgency.give_way()
    assert waited == [STEP] * 3


def test_not_for_ever():
    time = Time()
    began = time()

    def sleep(seconds: float) -> None:
        time.value += seconds

    urgency = Urgency(time, sleep)
    urgency.high = True
    urgency.give_way()
    assert MOST <= time() - began < MOST + 2 * STEP
