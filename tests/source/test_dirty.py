from __future__ import annotations

import threading

import pytest

from livelift.source.dirty import COALESCE, DUTY, Dirty
from tests.source.fakes import Time


@pytest.fixture
def now() -> Time:
    return Time()


def take(dirty: Dirty) -> int:
    taken = dirty.take(0)
    return taken[0] if taken else 0


def test_repeated_marks_cost_one_reading(now):
    dirty = Dirty(now)
    dirty.add(7, False, 11, (5, b"name"))
    for at in (12, 13, 14):
        dirty.add(7, True, at)
    assert take(dirty) == 0, "not before the coalescing time is over"
    now.value += COALESCE
    oid, mark = dirty.take(0)
    assert (oid, mark) == (7, (True, 11, (5, b"name"), 0)), "content wins, the oldest capture time stays"
    now.value += 10
    assert take(dirty) == 0


def test_attributes_alone_do_not_take_content_back(now):
    dirty = Dirty(now)
    dirty.add(7, True)
    dirty.add(7, False)
    now.value += 1
    assert dirty.take(0)[1].content


def test_a_mark_during_the_reading_is_a_new_one(now):
    dirty = Dirty(now)
    dirty.add(7, True)
    now.value += 1
    assert take(dirty) == 7
    dirty.add(7, True)
    dirty.done(7, 0.001)
    now.value += 1
    assert take(dirty) == 7


def test_they_come_in_the_order_in_which_they_are_due(now):
    dirty = Dirty(now)
    dirty.add(1, True, delay=0.5)
    dirty.add(2, True, delay=0.1)
    dirty.add(3, True, delay=0.3)
    now.value += 1
    assert [take(dirty) for _ in range(4)] == [2, 3, 1, 0]


def test_hurry_does_not_wait(now):
    dirty = Dirty(now)
    dirty.add(1, True, delay=60)
    assert take(dirty) == 0
    dirty.set_hurry(True)
    assert take(dirty) == 1
    dirty.set_hurry(False)
    dirty.add(2, True, delay=60)
    assert take(dirty) == 0


def test_a_hot_file_waits_in_proportion_to_what_its_reading_took(now):
    dirty = Dirty(now)
    dirty.add(1, True, delay=0)
    assert take(dirty) == 1
    dirty.done(1, 2.0)
    dirty.add(1, True)
    dirty.add(2, True)
    now.value += DUTY * 2.0 - 0.01
    assert [take(dirty), take(dirty)] == [2, 0], "others do not wait for it"
    now.value += 0.02
    assert take(dirty) == 1
    dirty.done(1, 0.01)  # quick again: no back-off from here on
    now.value += DUTY * 2.0
    dirty.add(1, True)
    now.value += COALESCE
    assert take(dirty) == 1


def test_the_memory_of_hot_files_is_bounded(now):
    dirty = Dirty(now)
    for oid in range(1, 10_001):
        dirty.add(oid, True, delay=0)
        assert take(dirty) == oid
        dirty.done(oid, 0.03)
        now.value += 0.01
    assert len(dirty._not_before) <= 4097


def test_idle_means_nothing_marked_and_nothing_being_read(now):
    dirty = Dirty(now)
    assert dirty.idle()
    dirty.add(1, True, delay=0)
    assert not dirty.idle()
    assert take(dirty) == 1
    assert len(dirty) == 0
    assert not dirty.idle(), "it is being read"
    dirty.done(1, 0)
    assert dirty.idle()


def test_forgotten_objects_are_not_read(now):
    dirty = Dirty(now)
    dirty.add(1, True, delay=0)
    dirty.add(2, True, delay=0)
    dirty.forget(1)
    dirty.forget(99)
    assert [take(dirty), take(dirty)] == [2, 0]


def test_an_object_forgotten_and_marked_again_is_read_once(now):
    dirty = Dirty(now)
    dirty.add(1, True, delay=0)
    dirty.forget(1)
    dirty.add(1, True, delay=0)
    now.value += 1
    assert [take(dirty), take(dirty)] == [1, 0]


def test_oldest_is_the_age_of_the_backlog(now):
    dirty = Dirty(now)
    assert dirty.oldest() == 0
    for oid, at in ((1, 30), (2, 20), (3, 0)):
        dirty.add(oid, True, at, delay=0)
    assert dirty.oldest() == 20
    dirty.forget(2)
    assert dirty.oldest() == 30


def test_threads_take_every_mark_once():
    """With the real clock: four readers, one marker; nothing is lost, nothing read twice."""
    import time

    dirty = Dirty(time.monotonic)
    taken: list[int] = []
    stop = threading.Event()

    def reader() -> None:
        while not stop.is_set():
            found = dirty.take(0.05)
            if found:
                taken.append(found[0])
                dirty.done(found[0], 0)

    threads = [threading.Thread(target=reader) for _ in range(4)]
    for thread in threads:
        thread.start()
    for oid in range(1, 1001):
        dirty.add(oid, True, delay=0.01)
    deadline = time.monotonic() + 10
    while not dirty.idle() and time.monotonic() < deadline:
        time.sleep(0.005)
    stop.set()
    for thread in threads:
        thread.join(5)
    assert sorted(taken) == list(range(1, 1001))


def test_a_waiting_reader_is_woken_by_a_mark():
    import time

    dirty = Dirty(time.monotonic)
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(dirty.take(10)))
    thread.start()
    time.sleep(0.02)
    began = time.monotonic()
    dirty.add(5, True, delay=0)
    thread.join(5)
    assert time.monotonic() - began < 2
    assert found[0][0] == 5


def test_what_was_asked_for_is_over_after_a_reading_that_began_later(now):
    """A file that is marked all the time waits to be read all the time: that alone does not tell."""
    dirty = Dirty(now)
    dirty.add(7, True)
    now.value += 1
    assert take(dirty) == 7
    dirty.ask([7])
    dirty.done(7, 0.001)
    assert dirty.is_asked([7]), "the reading had begun before"
    now.value += 1
    assert take(dirty) == 7
    dirty.add(7, True)
    assert dirty.is_asked([6, 7])
    dirty.done(7, 0.001)
    assert not dirty.is_asked([7]), "the mark is a new one"
    assert dirty.has([7])


def test_what_could_not_be_read_yet_is_still_asked_for(now):
    dirty = Dirty(now)
    dirty.ask([7])
    now.value += 1
    oid, mark = dirty.take(0)
    dirty.again(oid, mark, 0.05)
    dirty.done(7, 0.001)
    assert dirty.is_asked([7])
    dirty.forget(7)
    assert not dirty.is_asked([7]) and not dirty.has([7])


def test_what_was_looked_for_too_early_waits_for_the_follower(now):
    reached = 0
    dirty = Dirty(now, lambda: reached)
    dirty.add(7, False)
    now.value += 1
    oid, mark = dirty.take(0)
    dirty.again(oid, mark._replace(tries=1), 0.02, position=50)
    dirty.done(7, 0.001)
    now.value += 60
    dirty.add(7, True)
    dirty.set_hurry(True)
    assert not take(dirty) and not dirty.idle(), "its events have not been followed yet"
    reached = 50
    oid, mark = dirty.take(0)
    assert (oid, mark.content, mark.tries) == (7, True, 1)
    dirty.again(oid, mark, 0.02, position=50)
    assert take(dirty) == 7, "the follower is there already"
