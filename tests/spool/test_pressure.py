from __future__ import annotations

from livelift.spool import pressure
from livelift.spool.pressure import Heat, elide
from tests.spool.helpers import base, mark, write


def test_nothing_is_dropped_beyond_need() -> None:
    records = [write(1, bytes(10)), write(2, bytes(20)), write(3, bytes(30))]
    kept, lost = Heat().drop(records, 25)
    assert lost == [3] and [r.elided for r in kept] == [False, False, True]
    assert kept[2].length == 30 and not kept[2].payload and records[2].payload, "the caller's record is untouched"
    assert kept[2].body == records[2].body
    assert Heat().drop(records, 31)[1] == [3, 2]
    assert Heat().drop(records, 0)[1] == []


def test_heat_is_what_was_written_so_far() -> None:
    heat = Heat()
    heat.count([write(1, bytes(100)), base(2, bytes(1000))])
    assert heat.drop([write(2, bytes(50)), write(1, bytes(10))], 1)[1] == [1]
    heat.relax()
    assert heat.drop([write(2, bytes(50)), write(1, bytes(10))], 1)[1] == [2]


def test_all_writes_of_a_dropped_object_go_and_nothing_else() -> None:
    records = [write(1, b"aaaa"), base(1, b"bbbb"), mark(), write(1, b""), write(1, b"c")]
    kept, lost = Heat().drop(records, 1)
    assert lost == [1] and [r.elided for r in kept] == [True, False, False, False, True]


def test_the_counts_are_bounded_and_keep_the_hottest() -> None:
    heat = Heat()
    heat.count([write(999_999, bytes(500))])
    for start in range(0, 2 * pressure._MOST, 1000):
        heat.count([write(oid, b"x") for oid in range(start, start + 1000)])
        assert len(heat._bytes) <= pressure._MOST
    assert heat._bytes[999_999] == 500


def test_eliding_nothing_is_nothing() -> None:
    record = mark()
    assert elide(record) is record
