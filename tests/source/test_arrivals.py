"""Who waits for a sync mark has its answer when the follower has come to it, and is not left waiting."""

from __future__ import annotations

import threading

from livelift.ports import Synced
from livelift.source.arrivals import Arrivals
from tests.source.fakes import FakeCapture


def test_a_mark_answers_every_question_before_it():
    arrivals = Arrivals()
    first, second = arrivals.ask(), arrivals.ask()
    arrivals.reported(first)
    assert arrivals.wait(first, lambda: False, 0)
    assert not arrivals.wait(second, lambda: False, 0)
    arrivals.reported(second)
    arrivals.reported(first)  # late
    assert arrivals.wait(first, lambda: False, 0) and arrivals.wait(second, lambda: False, 0)


def test_sync_answers_after_everything_before_it(world):
    capture, stop = FakeCapture(), threading.Event()
    world.remove(world.directory, b"f")
    capture.reads = [list(world.queue)]
    thread = threading.Thread(target=world.follower.run, args=(capture, stop))
    thread.start()
    try:
        assert world.follower.sync(capture, 5)
        assert world.index.lookup(world.directory.oid, b"f") == 0 or capture.reads == []
        assert world.follower.sync(capture, 5)
    finally:
        stop.set()
        thread.join(5)


def test_sync_gives_up_after_its_time(world):
    class Silent(FakeCapture):
        def sync(self, token: int) -> None:
            self.asked = token

    assert not world.follower.sync(Silent(), 0.05)


def test_an_old_token_does_not_answer_a_new_question(world):
    class Old(FakeCapture):
        def sync(self, token: int) -> None:
            world.follower.process([Synced(token - 1)])

    assert not world.follower.sync(Old(), 0.05)
