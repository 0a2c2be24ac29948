"""Damage anywhere in a small hive: either it is told, or what is read is a hive that can be walked and written."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress

import pytest

from livelift.errors import HiveError
from livelift.registry.inspect import inspect
from livelift.registry.reader import open_hive, tree_of
from livelift.registry.tree import Hive, Key
from livelift.registry.writer import write_hive
from tests.registry.raw import sample, sealed
from tests.registry.test_logs import DIRTY, new, old
from tests.registry.test_logs import hive as generation_hive


def small() -> bytes:
    """One block of bins, with a little of everything."""
    hive = Hive(Key("R", 1, b"s" * 20))
    hive.root.make("Alpha\\Beta").set("text", 1, b"a\0b\0\0\0")
    hive.root.make("Größe").set("", 4, b"\1\0\0\0")
    hive.root.make("Ω").class_name = b"class!"
    hive.root.make("more").security = b"t" * 20
    hive.root.set("bytes", 3, bytes(50))
    data = write_hive(hive)
    assert len(data) == 8192
    return data


def survive(data: bytes, logs: list[bytes]) -> None:
    """Read it and use all of it; anything but HiveError is a fault of ours."""
    with suppress(HiveError):
        opened = open_hive(data, logs)
        hive = tree_of(opened)
        inspect(opened.cells, opened.block)
        hive.counts()
        write_hive(hive)


def regions(data: bytes) -> Iterator[int]:
    """Places that mean something: the header of the file, and its bins up to the free rest."""
    yield from range(512)
    yield from range(4096, len(data.rstrip(b"\0")) + 4)


def test_every_byte() -> None:
    whole = small()
    for at in regions(whole):
        for value in (0, 0xFF, whole[at] ^ 1, whole[at] ^ 0x80, (whole[at] + 8) & 0xFF):
            data = bytearray(whole)
            data[at] = value
            survive(sealed(bytes(data)) if at < 508 else bytes(data), [])


@pytest.mark.long
@pytest.mark.timeout(600)
def test_every_bit_and_every_pair_of_offsets() -> None:
    whole = small()
    for at in regions(whole):
        for bit in range(8):
            data = bytearray(whole)
            data[at] ^= 1 << bit
            survive(sealed(bytes(data)) if at < 508 else bytes(data), [])
    words = [at for at in range(4128, len(whole.rstrip(b"\0")), 4)]
    for at in words:
        for other in words[::3]:
            data = bytearray(whole)
            data[at : at + 4] = whole[other : other + 4]
            survive(bytes(data), [])


def test_several_faults_at_once(rng: random.Random) -> None:
    for whole in (small(), sample()):
        for _ in range(1500):
            data = bytearray(whole)
            for _ in range(rng.choice((2, 3, 8, 40))):
                data[rng.randrange(4096, len(data))] = rng.randrange(256)
            survive(bytes(data), [])


def test_damaged_logs(rng: random.Random) -> None:
    for whole in (new(7, 1, 2), old(generation_hive(5), list(range(8)))):
        for _ in range(1000):
            data = bytearray(whole)
            for _ in range(rng.choice((1, 2, 5))):
                data[rng.randrange(700)] = rng.randrange(256)
            survive(DIRTY, [sealed(bytes(data))])


def test_a_small_hive_never_becomes_big(rng: random.Random) -> None:
    whole = small()
    survive(whole, [])
    tracemalloc.start()
    try:
        for _ in range(400):
            data = bytearray(whole)
            for _ in range(3):
                at = rng.randrange(4128, 5000) & ~3
                data[at : at + 4] = rng.choice((b"\xff\xff\xff\x7f", b"\0\0\xff\0", b"\xff\xff\xff\xff", b"\x20\0\0\0"))
            survive(bytes(data), [])
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
