"""What many records say of an object at once is what they say one after the other."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from livelift.index.growth import END, GROWS, SETS, SHIFTS, Change, changes
from livelift.index.tree import TreeIndex
from livelift.merge.blocks import DIGEST
from livelift.model.entry import Attributes
from livelift.model.record import BaseFile, Kind, Range, Record, Reflink

KINDS = (
    *(Kind.WRITE, Kind.WRITE, Kind.WRITE, Kind.TRUNCATE, Kind.ALLOCATE, Kind.PUNCH, Kind.ZERO, Kind.COLLAPSE),
    *(Kind.INSERT, Kind.REFLINK),
)


def told(kind: Kind, oid: int, offset: int, length: int, flags: int = 0) -> tuple[Kind, Range | Reflink]:
    if kind is Kind.REFLINK:
        return kind, Reflink(oid, 2, b"f", offset, length, 9, 2, b"g", 0)
    return kind, Range(oid, 2, b"f", offset, length, flags)


def test_writes_of_a_batch_are_one_change_for_each_file():
    writes = [told(Kind.WRITE, 7, 0, 8), told(Kind.WRITE, 8, 90, 10), told(Kind.WRITE, 7, 40, 8)]
    writes.append(told(Kind.WRITE, 7, 8, 8))
    assert list(changes(writes)) == [
        Change(7, GROWS, 48, [(0, 8), (40, 48), (8, 16)]),
        Change(8, GROWS, 100, [(90, 100)]),
    ]


def test_what_shrinks_a_file_keeps_its_place_between_its_writes():
    sequence = [told(Kind.WRITE, 7, 0, 90), told(Kind.TRUNCATE, 7, 10, 0), told(Kind.WRITE, 7, 20, 5)]
    sequence += [told(Kind.COLLAPSE, 7, 0, 10), told(Kind.INSERT, 7, 5, 10)]
    assert list(changes(sequence)) == [
        Change(7, GROWS, 90, [(0, 90)]),
        Change(7, SETS, 10, [(10, END)]),
        Change(7, GROWS, 25, [(20, 25)]),
        Change(7, SHIFTS, -10, [(0, END)]),
        Change(7, SHIFTS, 10, [(5, END)]),
    ]


def test_what_keeps_the_size_says_so():
    assert [c.value for c in changes([told(Kind.PUNCH, 7, 0, 90)])] == [0]
    assert [c.value for c in changes([told(Kind.WRITE, 7, 0, 5), told(Kind.ALLOCATE, 7, 0, 90, 1)])] == [5]


@pytest.mark.parametrize("run", range(20))
def test_together_they_leave_the_index_as_one_by_one(tmp_path: Path, run: int):
    chooser = random.Random(run)
    sequence = [
        told(
            chooser.choice(KINDS), chooser.choice((6, 7)), chooser.randrange(60), chooser.randrange(1, 20),
            chooser.randrange(2),
        )
        for _ in range(40)
    ]  # fmt: skip
    indexes = [TreeIndex(os.fsencode(tmp_path / name)) for name in ("together", "alone")]
    for index in indexes:
        for oid in (6, 7):
            a = Attributes(0o100644, 0, 0, 40, 5, 0, 5)
            index.apply([Record(Kind.BASE_FILE, BaseFile(oid, 2, b"%d" % oid, a))])
            index.set_blocks(oid, 10, bytes(range(1, 5)) * DIGEST)
    together, alone = indexes
    together.wrote(sequence)
    for one in sequence:
        alone.wrote([one])
    for oid in (6, 7):
        assert together.of(oid) == alone.of(oid)
        assert together.blocks(oid) == alone.blocks(oid)
    for index in indexes:
        index.close()
