"""Which directories are listed next, and which wait."""

from __future__ import annotations

from livelift.source.walk_queue import WalkQueue
from tests.source.fakes import Time


def test_depth_first_each_once_and_half_of_them_at_a_time():
    queue = WalkQueue(lambda: [1, 2])
    queue.add(0, False)
    queue.add(3, False)
    queue.add(1, True)
    assert len(queue) == 3 and not queue.idle()
    assert queue.take(16, 0) == [(3, False), (2, False)]
    assert queue.take(16, 0) == [(1, True)]
    queue.count(-3)
    assert queue.idle()


def test_what_is_put_off_waits_for_its_time_and_for_the_follower():
    """Looked for again and again meanwhile, it would take the time that the follower needs."""
    now, reached = Time(), 0
    queue = WalkQueue(lambda: [], lambda: reached, now)
    queue.put_off(7, True, 0.1, 50)
    queue.put_off(8, False, 0.1)
    assert queue.take(16, 0) == []
    now.value += 0.2
    assert queue.take(16, 0) == [(8, False)]
    queue.count(-1)
    now.value += 60
    assert queue.take(16, 0) == [] and not queue.idle() and len(queue) == 1
    reached = 50
    now.value += 0.2
    assert queue.take(16, 0) == [(7, True)]


def test_what_is_done_later_is_done_once_by_who_takes_and_the_walk_is_not_idle_until_then():
    now = Time()
    queue = WalkQueue(lambda: [], now=now)
    seen: list[bool] = []
    queue.later(lambda: seen.append(queue.idle()), 0.03)
    assert queue.take(16, 0) == [] and not queue.idle()
    now.value += 0.2
    assert queue.take(16, 0) == [] and seen == [False]
    now.value += 0.2
    assert queue.take(16, 0) == [] and len(seen) == 1 and queue.idle()
