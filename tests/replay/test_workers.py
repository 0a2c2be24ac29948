"""Workers: every object's records stay in order, an error of one reaches the caller after all have stopped."""

from __future__ import annotations

import random
import threading
from unittest import mock

import pytest

from livelift.model.record import Kind, Range, Record
from livelift.replay import workers as module
from livelift.replay.directories import Directory
from livelift.replay.hands import Hands, Who
from livelift.replay.trouble import Conflict, ReplicaError
from livelift.replay.workers import Item, Workers


def group_of(count: int, rng: random.Random) -> list[Item]:
    where = mock.create_autospec(Directory, instance=True)
    bodies = [Range(rng.randrange(1, 1000), 1, b"f", 0, 0) for _ in range(count)]
    return [(Record(Kind.WRITE, body, lsn=lsn), where) for lsn, body in enumerate(bodies, 1)]


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("size", [5, 3000])
def test_order_and_completeness(count: int, size: int, rng: random.Random) -> None:
    lock, who = threading.Lock(), Who()
    seen: dict[int, list[tuple[int, int]]] = {}

    def note(own: Hands, directory: Directory, record: Record) -> Conflict | None:
        oid: int = record.body.oid  # type: ignore[union-attr]
        seen.setdefault(oid, []).append((record.lsn, id(own)))
        return Conflict(oid, 1, b"f", record.lsn, record.kind, "") if record.lsn % 5 == 0 else None

    made = Workers([Hands(who, lock, 8) for _ in range(count)])
    group = group_of(size, rng)
    with mock.patch.object(module, "apply_one", note):
        conflicts = made.run(group)
    made.close()
    for oid, applied in seen.items():
        assert [lsn for lsn, _ in applied] == [r.lsn for r, _ in group if r.body.oid == oid]  # type: ignore[union-attr]
        assert {own for _, own in applied} == {id(made.of(oid))}
    assert sum(map(len, seen.values())) == size
    assert sorted(conflict.lsn for conflict in conflicts) == list(range(5, size + 1, 5))


def test_an_error_of_any_worker_is_raised_and_the_next_group_works(rng: random.Random) -> None:
    made = Workers([Hands(Who(), threading.Lock(), 8) for _ in range(3)])
    group = group_of(500, rng)
    for bad in (made.hands[0], made.hands[2]):

        def fail(own: Hands, directory: Directory, record: Record, bad: Hands = bad) -> Conflict | None:
            if own is bad:
                raise ReplicaError("broken")
            return None

        with mock.patch.object(module, "apply_one", fail), pytest.raises(ReplicaError, match="broken"):
            made.run(group)
    with mock.patch.object(module, "apply_one", lambda *_: None):
        assert made.run(group) == []
    made.close()
