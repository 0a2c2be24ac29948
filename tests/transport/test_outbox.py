from __future__ import annotations

import threading

import pytest

from livelift.errors import UnreachableError
from livelift.transport.outbox import Outbox


def error():
    return UnreachableError("the peer")


def test_sequence_numbers_and_the_emptiest_lane():
    box = Outbox(2, 100)
    for size in (60, 10, 10, 30):
        box.put(lambda n: n, size)
    assert [box.take(0), box.take(1), box.take(1), box.take(1)] == [(0, 60), (1, 10), (2, 10), (3, 30)]
    assert box.waiting == 110
    assert box.sequence == 4


def test_full_lanes_block_until_something_was_sent():
    box = Outbox(1, 100)
    box.put(lambda n: n, 500)  # larger than the limit, into an empty lane
    passed = threading.Event()
    thread = threading.Thread(target=lambda: (box.put(lambda n: n, 1), passed.set()))
    thread.start()
    box.take(0)
    assert not passed.wait(0.1)  # taken is not yet sent
    box.sent(0, 500)
    assert passed.wait(5)
    thread.join()


def test_urgent_goes_first_and_does_not_wait():
    box = Outbox(1, 10)
    box.put(lambda _: "slow", 10)
    box.put(lambda _: "ping", 10, urgent=True)
    assert box.take(0) == ("ping", 10)


def test_failure_wakes_everybody():
    box = Outbox(1, 10)
    box.put(lambda n: n, 10)
    outcome = []

    def put():
        with pytest.raises(UnreachableError):
            box.put(lambda n: n, 10)
        outcome.append("put")

    def drain():
        outcome.append(box.drain(10))

    threads = [threading.Thread(target=put), threading.Thread(target=drain)]
    for thread in threads:
        thread.start()
    box.fail(error)
    for thread in threads:
        thread.join(5)
    assert sorted(map(str, outcome)) == ["False", "put"]
    assert box.take(0) is None


def test_drain():
    box = Outbox(2, 10)
    assert box.drain(0)
    box.put(lambda n: n, 5)
    assert not box.drain(0.01)
    box.take(0)
    assert not box.drain(0.01)
    box.sent(0, 5)
    assert box.drain(0)
