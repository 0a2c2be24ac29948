"""How far the capture says it has come: everything given out, and nothing half told. Without a kernel."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from livelift.capture.ebpf.inorder import EbpfFexitCapture, _choose
from livelift.capture.ebpf.order import Order
from livelift.capture.ebpf.records import MORE, Operation, Told
from livelift.errors import PreflightError
from livelift.ports import Lost, Synced
from tests.capture.ebpf.test_order import fill, held, told, write


def come(*batches: list[Told]) -> list[tuple[int, int, bool]]:
    """(reached, passed, settled) behind each batch; a record is ten bytes of the ring."""
    order = Order()
    left = list(batches)
    consumed = 0

    def take(now: float) -> Any:
        nonlocal consumed
        batch = left.pop(0)
        consumed += 10 * len(batch)
        return order.feed(batch, 0.0)

    stream: Any = SimpleNamespace(order=order, take=take, consumed=lambda: consumed, lost=lambda: [])
    capture = EbpfFexitCapture()
    out = []
    while left:
        capture._next(stream)
        out.append((capture.reached, capture.passed, capture.settled))
    return out


def test_what_is_behind_a_place_is_not_reached_before_it_is_filled():
    batches = [write(0)], [write(1), held(10, 1)], [write(2), write(3)], [fill(10, b"a")], [held(20, 1)]
    assert come(*batches) == [(10, 10, True), (10, 10, False), (10, 10, False), (60, 60, True), (60, 60, False)]


def test_a_call_of_which_a_part_was_given_out_is_reached_but_not_at_rest():
    first = told(Operation.WRITE, 0, b"w", flags=MORE)
    batches = [write(9, task=5)], [first], [write(9, task=5)], [told(Operation.WHOLE)]
    assert come(*batches) == [(10, 10, True), (20, 10, False), (30, 10, False), (40, 40, True)]


def test_a_loss_is_told_at_once_and_again_behind_what_was_told_before_it():
    """What is read at the first is overtaken by the records that were in the ring then."""
    order, batches, losses = Order(), [[write(0)], [write(1)], [write(2)]], [[Lost(7, 0, "full")], [], []]
    end = iter([10, 20, 30])
    stream: Any = SimpleNamespace(
        order=order,
        take=lambda now: order.feed(batches.pop(0), 0.0),
        consumed=lambda: next(end),
        produced=lambda: 20,
        lost=lambda: losses.pop(0),
    )
    capture = EbpfFexitCapture()
    told = [[isinstance(event, Lost) for event in capture._next(stream)] for _ in range(3)]
    assert told == [[False, True], [False], [False, True]]


def test_a_mark_waits_for_the_losses_before_it_and_not_for_those_behind():
    """Objects are lost at every look: a drain comes to its end all the same, behind what was lost when it began."""
    order, looks = Order(), iter(range(1000))
    now = 0

    def take(_: float) -> Any:
        nonlocal now
        now = next(looks)
        return order.feed([write(now)], 0.0)

    stream: Any = SimpleNamespace(
        order=order,
        take=take,
        consumed=lambda: 10 * (now + 1),
        produced=lambda: 10 * (now + 3),
        lost=lambda: [Lost(now, 0, "full")],
    )
    capture = EbpfFexitCapture()
    first: dict[int, int] = {}
    again: list[int] = []
    for look in range(20):
        if look == 4:
            capture._tokens.append((1, stream.produced()))
        events = capture._next(stream)
        if Synced(1) in events:
            break
        for event in events:
            if isinstance(event, Lost):
                again += [event.oid] if event.oid in first else []
                first.setdefault(event.oid, look)
    else:
        pytest.fail("the mark was never answered")
    before = events[: events.index(Synced(1))]
    again += [event.oid for event in before if isinstance(event, Lost) and event.oid in first]
    assert {0, 1, 2, 3, 4} <= set(again), "lost before the mark, so told again before it is answered"


def test_pages_of_another_size_are_refused(monkeypatch: pytest.MonkeyPatch):
    """On arm64: the programs would tell of the wrong places."""
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 65536}.__getitem__)
    with pytest.raises(PreflightError, match="65536"):
        _choose(SimpleNamespace())  # type: ignore[arg-type]
