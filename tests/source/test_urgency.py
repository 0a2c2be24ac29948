"""Giving way ends with the urgency, or after its time; the follower says when there is one."""

from __future__ import annotations

import threading

from livelift.ports import Synced
from livelift.source.follower import MANY
from livelift.source.urgency import MOST, STEP, Urgency
from tests.source.fakes import FakeCapture, Time


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


# -- who sets it, and who asks -----------------------------------------------------------------------------------------


class Ring(FakeCapture):
    """Reads until there is nothing more; says how full it was after each."""

    def __init__(self, stop: threading.Event, *reads: tuple[int, float]) -> None:
        super().__init__()
        self.left, self.full, self.stop = list(reads), 0.0, stop

    def read(self, timeout: float) -> list:
        if not self.left:
            self.stop.set()
            return []
        count, self.full = self.left.pop(0)
        return [Synced(0)] * count

    def filled(self) -> float:
        return self.full


def test_who_can_wait_is_told_when_the_ring_fills_faster_than_it_is_emptied(world):
    stop = threading.Event()
    world.follower.run(Ring(stop, (1, 0.5)), stop)
    assert world.journal.urgency.high
    stop = threading.Event()
    world.follower.run(Ring(stop, (1, 0.5), (1, 0.01)), stop)
    assert not world.journal.urgency.high


def test_only_few_events_wait_for_company(world):
    class Stop(threading.Event):
        waits = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.waits += 1
            return False

    for count, waits in ((1, 1), (MANY - 1, 1), (MANY, 0)):
        stop = Stop()
        world.follower.run(Ring(stop, (count, 0.0)), stop)
        assert stop.waits == waits, count
