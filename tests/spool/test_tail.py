from __future__ import annotations

from livelift.log.batch import Batch, make_batch
from livelift.model.record import RELOADABLE, Record
from livelift.spool.tail import Tail
from tests.log.strategies import numbered
from tests.spool.helpers import base, mark, write


def put(tail: Tail, first: int, *records: Record) -> Batch:
    batch = make_batch(numbered(list(records), first))
    tail.put(batch, sum(len(r.payload) for r in records if r.kind in RELOADABLE))
    return batch


def test_a_batch_is_found_by_each_of_its_lsns() -> None:
    tail = Tail(1 << 20)
    first, second = put(tail, 1, mark(), mark(), mark()), put(tail, 4, mark(), mark())
    for lsn, batch in ((1, first), (2, first), (3, first), (4, second), (5, second)):
        held = tail.find(lsn)
        assert held is not None and held.batch is batch and held.whole
    assert tail.find(6) is None and tail.find(0) is None


def test_forgetting_takes_whole_batches_and_all_their_bytes() -> None:
    tail = Tail(1 << 20)
    put(tail, 1, mark(), base(5, bytes(100)))
    put(tail, 3, write(5, bytes(100)), mark())
    tail.forget(3)
    assert tail.find(1) is None and tail.find(3) is not None and tail.reloadable == 0
    tail.forget(4)
    assert (tail.bytes, tail.find(3)) == (0, None)


def test_the_oldest_that_the_disk_has_gives_way() -> None:
    tail = Tail(4000)
    put(tail, 1, write(5, bytes(1000)))
    put(tail, 2, base(6, bytes(1000)), write(5, bytes(500)))
    put(tail, 4, write(5, bytes(1000)))
    assert tail.bytes <= 4000
    assert tail.find(1) is None
    put(tail, 5, write(5, bytes(1000)))
    held = tail.find(2)
    assert held is not None and not held.whole
    assert [blob and len(blob) for blob in held.blobs] == [1000, None]
    newest = tail.find(5)
    assert newest is not None and newest.whole
    tail.forget(5)
    assert tail.bytes == tail.reloadable == 0


def test_bookkeeping_does_not_grow_with_what_has_passed() -> None:
    tail = Tail(50_000)
    for lsn in range(1, 20_000):
        put(tail, lsn, mark())
        tail.forget(lsn - 5)
    assert len(tail._firsts) < 3000 and len(tail._movable) < 10 and len(tail._held) == 5
