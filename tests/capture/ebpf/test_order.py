"""Places that are kept, filled, given up; operations that overlap what happened meanwhile."""

from __future__ import annotations

import pytest

from livelift.capture.ebpf.order import Order
from livelift.capture.ebpf.records import CLONE, ENDS, MORE, Operation, Told, decode
from livelift.model.record import Kind
from livelift.ports import Dirty, Exact, Lost
from tests.capture.ebpf.test_records import LENGTH, OID, sample


def told(op: Operation, offset: int = 0, data: bytes = b"", count: int = 0, task: int = 77, flags: int = 0) -> Told:
    raw = sample(op, offset, data or LENGTH.pack(count), flags, len(data))
    return decode([raw], 0)[0]._replace(task=task)


def write(offset: int, data: bytes = b"w", task: int = 77) -> Told:
    return told(Operation.WRITE, offset, data, task=task)


def held(offset: int, count: int, task: int = 77) -> Told:
    return told(Operation.HELD, offset, count=count, task=task)


def fill(offset: int, data: bytes, task: int = 77) -> Told:
    return told(Operation.FILL, offset, data, task=task)


def contents(out: list) -> list[tuple[int, bytes]]:
    return [(o.event.record.body.offset, bytes(o.event.record.payload)) for o in out if isinstance(o.event, Exact)]


def kinds(out: list) -> list[Kind]:
    return [o.event.record.kind for o in out if isinstance(o.event, Exact)]


def test_what_needs_nothing_passes_at_once():
    order = Order()
    assert contents(order.feed([write(1), write(2)], 0.0)) == [(1, b"w"), (2, b"w")]
    assert order.given == order.taken == 2


def test_everything_behind_a_place_waits_for_its_bytes():
    order = Order()
    assert contents(order.feed([write(1), held(10, 3), write(2, task=5)], 0.0)) == [(1, b"w")]
    assert order.feed([], 0.5) == [] and order.given < order.taken
    assert contents(order.feed([write(3), fill(10, b"abc")], 1.0)) == [(10, b"abc"), (2, b"w"), (3, b"w")]


def test_a_place_is_filled_by_its_own_task_and_offset():
    order = Order()
    assert order.feed([held(10, 3, task=5), fill(10, b"abc", task=6), fill(13, b"abc", task=5)], 0.0) == []
    assert contents(order.feed([fill(10, b"xyz", task=5)], 0.0)) == [(10, b"xyz")]


def test_two_places_of_one_write_that_was_tried_twice():
    """A first try that may not wait (io_uring) is repeated: the same bytes for both."""
    order = Order()
    out = order.feed([held(10, 3), held(10, 3), fill(10, b"abc")], 0.0)
    assert contents(out) == [(10, b"abc"), (10, b"abc")]


def test_bytes_that_never_come_are_a_loss():
    order = Order(patience=2)
    assert order.feed([held(10, 3), write(1)], 0.0) == []
    out = order.feed([], 2.0)
    assert isinstance(out[0].event, Lost) and out[0].event.oid == OID
    assert contents(out[1:]) == [(1, b"w")]
    assert order.feed([fill(10, b"abc")], 2.1) == [], "too late, and not for the next place there"
    assert order.feed([held(10, 3)], 2.2) == []


def test_bytes_that_could_not_be_read_then_either_are_a_loss():
    out = Order().feed([held(10, 3), told(Operation.FILL, 10, count=3)], 0.0)
    assert [type(o.event) for o in out] == [Lost]


def test_a_fill_without_a_place_is_nothing():
    assert Order().feed([fill(10, b"abc")], 0.0) == []


def begin(task: int = 77) -> Told:
    return told(Operation.BEGIN, task=task)


def punch(task: int = 77) -> Told:
    return told(Operation.PUNCH, 0, count=4096, task=task, flags=ENDS)


def dirty(out: list) -> int:
    return sum(isinstance(o.event, Dirty) for o in out)


def test_an_operation_that_nothing_overlaps():
    out = Order().feed([write(1), begin(), punch(), write(2, task=5)], 0.0)
    assert len(out) == 3 and dirty(out) == 0


def test_a_write_between_beginning_and_end_is_looked_at():
    out = Order().feed([begin(), write(1, task=5), punch()], 0.0)
    assert [type(o.event) for o in out] == [Exact, Exact, Dirty]
    out = Order().feed([begin(), held(1, 1, task=5), fill(1, b"x", task=5), punch()], 0.0)
    assert dirty(out) == 1


def test_two_operations_that_overlap():
    out = Order().feed([begin(1), begin(2), punch(1), punch(2)], 0.0)
    assert dirty(out) == 2


def test_an_operation_that_failed_leaves_nothing_open():
    order = Order()
    assert order.feed([begin()], 0.0) == [] and not order.settled
    assert order.feed([told(Operation.END, flags=ENDS)], 0.0) == [] and order.settled
    assert dirty(order.feed([write(1), punch()], 0.0)) == 0


def copied(count: int) -> Told:
    return told(Operation.DIRTY, count=count, flags=ENDS)


def clone(count: int, task: int = 77) -> Told:
    (shared,) = decode([sample(Operation.CLONE, 100, CLONE.pack(count, 43, 200), 0, 0)], 0)
    return shared._replace(task=task)


def test_a_copy_that_was_told_as_writes_needs_no_look():
    order = Order()
    out = order.feed([begin(), write(1), write(2, task=5), held(2, 1), fill(2, b"x"), copied(2)], 0.0)
    assert [type(o.event) for o in out] == [Exact] * 3 and order.settled


def test_a_copy_of_which_nothing_was_told_is_looked_at():
    out = Order().feed([begin(), write(2, task=5), copied(2)], 0.0)
    assert dirty(out) == 2, "for what it copied, and for what came in between"


def test_shared_blocks_have_their_place_and_wait_for_the_end():
    order = Order()
    assert order.feed([begin(), clone(4096), write(1, task=5)], 0.0) == [] and not order.settled
    out = order.feed([copied(4096)], 0.1)
    assert kinds(out) == [Kind.REFLINK, Kind.WRITE] and dirty(out) == 0 and order.settled
    body = out[0].event.record.body
    assert (body.oid, body.offset, body.length, body.source_oid, body.source_offset) == (OID, 100, 4096, OID + 1, 200)


@pytest.mark.parametrize("end", [copied(4095), told(Operation.END, flags=ENDS)])
def test_blocks_that_were_not_all_shared_are_looked_at(end: Told):
    out = Order().feed([begin(), clone(4096), end], 0.0)
    assert [type(o.event) for o in out] == [Dirty]


def test_shared_blocks_of_a_call_that_takes_long_are_looked_at_in_the_end():
    order = Order(patience=2)
    assert order.feed([begin(), clone(4096), write(1, task=5)], 0.0) == []
    assert kinds(order.feed([], 2.0)) == [Kind.WRITE] and not order.settled
    assert dirty(order.feed([copied(4096)], 5.0)) > 0 and order.settled


def test_shared_blocks_whose_beginning_was_dropped_are_looked_at():
    out = Order().feed([clone(4096)], 0.0)
    assert [type(o.event) for o in out] == [Dirty]


def test_pages_that_fallocate_writes_to_disk_do_not_stand_for_it():
    page = told(Operation.PAGE, 0, b"page")
    out = Order().feed([begin(), page, punch()], 0.0)
    assert kinds(out) == [Kind.WRITE, Kind.PUNCH] and dirty(out) == 0


def test_the_end_of_an_operation_that_was_dropped_is_not_waited_for():
    order = Order()
    order.feed([begin()], 0.0)
    order.lost(OID)
    assert order.settled
    order.feed([begin(), told(Operation.WRITE, 0, b"x", flags=MORE)], 0.0)
    order.lost(0)
    assert order.settled


def setting(size: int, task: int = 77) -> Told:
    return told(Operation.SETTING, size, task=task)


def truncate(size: int, task: int = 77) -> Told:
    return told(Operation.TRUNCATE, size, task=task)


def test_a_change_of_size_has_its_place_before_it_happens():
    order = Order()
    assert order.feed([setting(7), write(1, task=5)], 0.0) == [] and not order.settled
    assert kinds(order.feed([write(2, task=5), truncate(7)], 0.1)) == [Kind.TRUNCATE, Kind.WRITE, Kind.WRITE]
    assert order.settled


def test_a_change_of_size_that_failed_is_none():
    order = Order()
    assert kinds(order.feed([setting(7), write(1, task=5), told(Operation.END, 7)], 0.0)) == [Kind.WRITE]
    assert order.settled


def test_a_change_of_size_that_takes_long_is_told_at_its_end_and_is_under_way_until_then():
    order = Order(patience=2)
    order.feed([setting(7), write(1, task=5)], 0.0)
    assert kinds(order.feed([], 2.0)) == [Kind.WRITE] and not order.settled
    assert kinds(order.feed([truncate(7)], 9.0)) == [Kind.TRUNCATE] and order.settled


def test_a_call_in_pieces_is_whole_when_its_end_has_come():
    order = Order(patience=2)
    piece = told(Operation.WRITE, 0, b"a", flags=MORE)
    assert contents(order.feed([piece], 0.0)) == [(0, b"a")] and not order.settled
    order.feed([told(Operation.WRITE, 1, b"b", flags=MORE), told(Operation.WHOLE)], 0.1)
    assert order.settled
    order.feed([piece], 1.0)
    order.feed([write(9)], 1.1)
    assert order.settled, "the same task has begun something else: its end was dropped"
    order.feed([piece], 2.0)
    order.feed([], 4.0)
    assert order.settled, "or it never comes"
