"""Names that wait for their time, and for the follower."""

from __future__ import annotations

from livelift.ports import Named, Op
from livelift.source import postponed as module
from livelift.source.postponed import Postponed


def test_a_name_waits_for_its_time_and_for_the_follower_and_is_given_out_once(monkeypatch):
    names = Postponed()
    assert names.add(2, b"late", 5, 10.2, 0)  # a mode that has no positions
    for due in (10.2, 10.3):
        assert names.add(2, b"n", 6, due, 50)
    assert names.take(10.1, 100) == []
    assert names.take(11.0, 49) == [Named(Op.TOUCHED, 2, b"late", time=5)]
    assert names.take(99.0, 49) == [] and len(names) == 2
    assert names.take(99.0, 50) == [Named(Op.TOUCHED, 2, b"n", time=6)]
    assert not names
    monkeypatch.setattr(module, "MOST", 1)
    assert names.add(2, b"one", 0, 0.0, 0)
    assert not names.add(2, b"two", 0, 0.0, 0)
