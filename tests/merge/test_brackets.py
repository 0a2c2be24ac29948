from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from livelift.merge.brackets import Brackets


def test_what_waits_comes_out_in_order_and_only_that():
    brackets: Brackets[str] = Brackets()
    assert not brackets.hold(1, "nobody reads 1")
    assert brackets.open(1)
    assert brackets.open(2)
    assert not brackets.open(1), "two readers of one object would race"
    for event, oid in (("a", 1), ("b", 2), ("c", 1)):
        assert brackets.hold(oid, event)
    assert not brackets.hold(3, "other objects pass")
    assert brackets.close(1) == (["a", "c"], False)
    assert not brackets.is_open(1)
    assert not brackets.hold(1, "closed")
    assert brackets.close(2) == (["b"], False)
    assert len(brackets) == 0


def test_beyond_the_bound_the_events_go_and_the_closing_says_so():
    brackets: Brackets[int] = Brackets(limit=3)
    brackets.open(1)
    brackets.open(2)
    for i in range(10):
        assert brackets.hold(1, i)
    assert brackets.hold(2, 99), "what object 1 gave back is room for object 2"
    assert brackets.close(1) == ([], True)
    assert brackets.close(2) == ([99], False)
    brackets.open(1)
    brackets.hold(1, 7)
    assert brackets.close(1) == ([7], False), "the next bracket begins anew"


@given(st.lists(st.tuples(st.sampled_from("ohc"), st.integers(1, 3)), max_size=60), st.integers(0, 5))
def test_never_lost_without_a_word(steps, limit):
    """Whatever the bound: an event that was held comes out at the closing, or the closing says overflow."""
    brackets: Brackets[int] = Brackets(limit)
    waiting: dict[int, list[int]] = {}
    for number, (step, oid) in enumerate(steps):
        if step == "o":
            assert brackets.open(oid) == (oid not in waiting)
            waiting.setdefault(oid, [])
        elif step == "h":
            assert brackets.hold(oid, number) == (oid in waiting)
            if oid in waiting:
                waiting[oid].append(number)
        elif oid in waiting:
            events, overflow = brackets.close(oid)
            assert events == ([] if overflow else waiting[oid])
            assert not overflow or len(waiting[oid]) > 0
            del waiting[oid]
    assert len(brackets) == len(waiting)
