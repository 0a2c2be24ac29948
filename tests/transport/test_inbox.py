from __future__ import annotations

import gc
import random
import threading

import pytest

from livelift.errors import UnreachableError, WireError
from livelift.protocol.frames import FrameKind, Header
from livelift.protocol.messages import Bye, Fault, Status
from livelift.transport import inbox as inbox_module
from livelift.transport.inbox import Inbox
from livelift.transport.pool import Pool


def header(sequence, size=100):
    return Header(FrameKind.BATCH, 0, sequence, sequence * 10 + 1, 10, 1, 1, size - 1, size - 1)


def bring(box, sequence, size=100):
    assert box.admit(sequence, size)
    box.deliver(header(sequence, size), b"h", memoryview(bytes(size - 1)), None)


def test_any_arrival_order_is_put_right():
    box = Inbox(10_000, Pool(0))
    order = list(range(50))
    random.shuffle(order)
    for sequence in order:
        bring(box, sequence)
    for sequence in range(50):
        delivery = box.take(0)
        assert delivery.sequence == sequence
        delivery.release()
    assert box.take(0) is None
    assert box.used == 0


def test_full_inbox_admits_only_the_next_one():
    box = Inbox(250, Pool(0))
    bring(box, 1)
    bring(box, 2)
    admitted = threading.Event()
    thread = threading.Thread(target=lambda: (bring(box, 3), admitted.set()))
    thread.start()
    assert not admitted.wait(0.1)
    bring(box, 0)  # beyond the limit, but the consumer waits for it
    assert box.used == 300
    for _ in range(3):
        box.take(1).release()
    assert admitted.wait(5)
    thread.join()


def test_admission_ends_with_the_channel():
    box = Inbox(10, Pool(0))
    bring(box, 0)
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(box.admit(5, 100)))
    thread.start()
    box.fail(lambda: UnreachableError("the peer"))
    thread.join(5)
    assert outcome == [False]
    with pytest.raises(UnreachableError):
        box.take(0)


def test_a_batch_that_comes_twice():
    box = Inbox(1000, Pool(0))
    bring(box, 0)
    bring(box, 1)
    with pytest.raises(WireError, match="twice"):
        box.admit(1, 10)
    box.take(0).release()
    with pytest.raises(WireError, match="twice"):
        box.admit(0, 10)


def test_messages_pass_batches_but_the_last_one_does_not():
    box = Inbox(1000, Pool(0))
    bring(box, 0)
    box.put_message(Status(b"1"), 1, 5)
    box.put_message(Bye(), 2, 5)
    assert box.take(0) == Status(b"1")
    assert box.take(0).sequence == 0
    assert box.take(0) is None
    assert not box.is_complete()
    bring(box, 1)
    assert box.is_complete()
    assert box.take(0).sequence == 1
    assert box.take(0) == Bye()


def test_fault_does_not_wait():
    box = Inbox(1000, Pool(0))
    box.put_message(Fault("wire", "x"), 100, 5)
    assert isinstance(box.take(0), Fault)


def test_messages_are_bounded_too(monkeypatch):
    monkeypatch.setattr(inbox_module, "MESSAGES", 2)
    box = Inbox(1000, Pool(0))
    for _ in range(2):
        box.put_message(Status(b""), 0, 1)
    passed = threading.Event()
    thread = threading.Thread(target=lambda: (box.put_message(Status(b"3"), 0, 1), passed.set()))
    thread.start()
    assert not passed.wait(0.1)
    box.take(0)
    assert passed.wait(5)
    thread.join()


def test_buffers_return_to_the_pool_at_release_but_not_when_forgotten():
    pool = Pool(1 << 20)
    box = Inbox(1000, pool)
    for sequence in range(2):
        buffer = pool.take(99)
        assert box.admit(sequence, 100)
        box.deliver(header(sequence), b"h", memoryview(buffer)[:99], buffer)
    first = box.take(0)
    first.release()
    assert pool.take(99) is not None
    assert pool._idle == 0  # the released one was taken again
    box.take(0)  # forgotten
    gc.collect()
    assert pool._idle == 0  # slices of it may live on
    assert box.used == 0


def test_take_waits_no_longer_than_told():
    assert Inbox(10, Pool(0)).take(0.01) is None
