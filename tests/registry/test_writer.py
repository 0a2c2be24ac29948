"""What is written is read again without a difference, and it is as the kernel wants it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import HealthCheck, given, settings

from livelift.errors import HiveError
from livelift.registry.base_block import BLOCK, unpack
from livelift.registry.compare import compare
from livelift.registry.inspect import inspect
from livelift.registry.lists import LEAF
from livelift.registry.reader import cells_of, open_hive, read_hive, tree_of
from livelift.registry.security import DEFAULT
from livelift.registry.tree import Hive, Key
from livelift.registry.writer import write_hive
from tests.registry.hives import NAMES, real
from tests.registry.raw import DESCRIPTOR, sample
from tests.registry.strategies import hives

STEADY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def everything(hive: Hive) -> list[object]:
    """All that a tree holds, order of values included. The encoding of names is not part of it."""
    return [
        (
            path, key.name, key.timestamp, key.security, key.class_name, key.flags & ~0x20, key.access, key.control,
            key.predefined, [(value.name, value.type, value.data, value.flags) for value in key.values],
        )
        for path, key in sorted(hive.root.walk())
    ]  # fmt: skip


def checked(data: bytes) -> Hive:
    """Read, with every cell accounted for and nothing to find for an inspection."""
    opened = open_hive(data)
    hive = tree_of(opened)
    assert opened.block.clean and opened.cells.lost() == 0
    assert inspect(opened.cells, opened.block).findings == []
    return hive


@STEADY
@given(hives())
def test_any_tree_comes_back(hive: Hive) -> None:
    data = write_hive(hive)
    back = checked(data)
    assert everything(back) == everything(hive)
    assert list(compare(hive.root, back.root, timestamps=True)) == []
    assert (back.minor, back.file_name, back.timestamp) == (hive.minor, hive.file_name, hive.timestamp)
    back.sequence = hive.sequence
    assert write_hive(back) == data, "writing is a function of the tree"


@pytest.mark.parametrize("name", NAMES)
def test_a_real_hive_comes_back(name: str) -> None:
    hive = read_hive(real(name))
    data = write_hive(hive)
    back = checked(data)
    assert everything(back) == everything(hive)
    assert len(data) < 1.01 * len(real(name)), "as small as Windows has it"


def test_a_hive_made_by_hand_comes_back() -> None:
    hive = read_hive(sample())
    assert everything(checked(write_hive(hive))) == everything(hive)


def node(data: bytes) -> tuple[int, ...]:
    """The words of the root's cell from its flags on."""
    root = BLOCK + unpack(data).root
    assert data[root + 4 : root + 6] == b"nk"
    return struct.unpack_from("<HQIIIIIIIIIIHHIIIIHH", data, root + 6)


def test_the_root_lies_where_windows_puts_it_and_says_what_is_below() -> None:
    hive = Hive(Key("Root", 5, DESCRIPTOR))
    for name, class_name in (("a", None), ("Größe", b"cc" * 9), ("Ωmega", None)):
        hive.root.add(Key(name, 6, DESCRIPTOR, class_name))
    hive.root.set("Grüße", 1, b"x" * 70)
    hive.root.set("Ω", 1, b"")
    data = write_hive(hive)
    assert unpack(data).root == 32
    words = node(data)
    assert words[0] == 0x2C, "the root of a hive, not to be deleted, name in one byte a letter"
    assert words[4] == 3 and words[5] == 0
    assert words[12] == 10 and words[14] == 18, "the longest name below, in UTF-16, and class name"
    assert words[15:17] == (10, 70), "the longest name of a value, in UTF-16, and the most data"


def lists_of(data: bytes) -> list[tuple[bytes, int]]:
    block = unpack(data)
    bins = memoryview(data)[BLOCK:]
    cells_of(bins, block)
    (offset,) = struct.unpack_from("<I", bins, block.root + 4 + 28)
    magic, count = struct.unpack_from("<2sH", bins, offset + 4)
    if magic != b"ri":
        return [(magic, count)]
    leaves = struct.unpack_from(f"<{count}I", bins, offset + 8)
    return [(magic, count), *(struct.unpack_from("<2sH", bins, leaf + 4) for leaf in leaves)]


@pytest.mark.parametrize(
    ("minor", "count", "lists"),
    [
        (5, 1, [(b"lh", 1)]),
        (6, LEAF, [(b"lh", LEAF)]),
        (5, LEAF + 1, [(b"ri", 2), (b"lh", LEAF), (b"lh", 1)]),
        (3, LEAF + 1, [(b"ri", 2), (b"lf", LEAF), (b"lf", 1)]),
        (4, 1, [(b"lf", 1)]),
        (5, 3247, [(b"ri", 7), *[(b"lh", LEAF)] * 6, (b"lh", 3247 - 6 * LEAF)]),
    ],
)
def test_lists_are_split_as_windows_splits_them(minor: int, count: int, lists: list[tuple[bytes, int]]) -> None:
    hive = Hive(Key("R", 0, DESCRIPTOR), minor)
    for number in range(count):
        hive.root.add(Key(f"key {number * 7919 % count}", 0, DESCRIPTOR))
    data = write_hive(hive)
    assert lists_of(data) == lists
    assert checked(data).counts() == (count + 1, 0)


def test_a_full_leaf_fills_a_bin_of_one_block() -> None:
    assert 32 + 4 + 4 + 8 * LEAF == BLOCK


@pytest.mark.parametrize("size", [0, 1, 4, 5, 16344, 16345, 2 * 16344, 2 * 16344 + 1, 1_000_000])
@pytest.mark.parametrize("minor", [3, 5])
def test_data_of_every_size(size: int, minor: int) -> None:
    hive = Hive(Key("R"), minor)
    hive.root.set("v", 0xFFFF0012, bytes(range(256)) * (size // 256 + 1))
    (value,) = hive.root.values
    value.data = value.data[:size]
    data = write_hive(hive)
    assert next(checked(data).root.values).data == value.data
    segments = [at for at in range(BLOCK, len(data), 8) if data[at + 4 : at + 6] == b"db"]
    assert len(segments) == (size > 16344 and minor >= 4)


def test_every_segment_has_a_cell_of_full_size() -> None:
    """As Windows allocates them (sizes as seen in SYSTEM hives of 7 and 10); hivex and libregf rely on it."""
    hive = Hive(Key("R", 0, DESCRIPTOR))
    hive.root.set("v", 3, bytes(2 * 16344 + 10))
    bins = memoryview(write_hive(hive))[BLOCK:]
    (record,) = [at for at in range(0, len(bins), 8) if bins[at + 4 : at + 8] == b"db\3\0"]
    (places,) = struct.unpack_from("<I", bins, record + 8)
    cells = struct.unpack_from("<3I", bins, places + 4)
    assert [struct.unpack_from("<i", bins, cell) for cell in cells] == [(-16352,)] * 3


def test_values_without_a_name_and_without_data_are_as_windows_has_them() -> None:
    hive = Hive(Key("R", 0, DESCRIPTOR))
    for name in ("", "latin ü", "Ω"):
        hive.root.set(name, 1, b"")
    data = write_hive(hive)
    cells = [struct.unpack_from("<HIIIH", data, at + 2) for at in range(0, len(data), 4) if data[at : at + 2] == b"vk"]
    assert cells == [(0, 0x80000000, 0, 1, 0), (7, 0x80000000, 0, 1, 1), (2, 0x80000000, 0, 1, 0)]


def test_four_bytes_lie_where_their_offset_would_be() -> None:
    hive = Hive(Key("R", 0, DESCRIPTOR))
    hive.root.set("v", 4, b"\1\2\3\4")
    hive.root.set("w", 3, b"\1\2\3\4\5")
    data = write_hive(hive)
    cells = [struct.unpack_from("<II", data, at + 4) for at in range(0, len(data), 4) if data[at : at + 2] == b"vk"]
    (size, where), (other, place) = sorted(cells, reverse=True)
    assert (size, where, other) == (0x80000004, 0x04030201, 5)
    assert data[BLOCK + place + 4 : BLOCK + place + 9] == b"\1\2\3\4\5"


def test_subkeys_are_in_the_order_of_their_units() -> None:
    hive = Hive(Key("R", 0, DESCRIPTOR))
    for name in ("\uffee", "\U00010000", "b", "ä", "_", "A"):
        hive.root.add(Key(name, 0, DESCRIPTOR))
    assert [key.name for key in checked(write_hive(hive)).root] == ["A", "b", "_", "ä", "\U00010000", "\uffee"]


def test_descriptors_are_shared_and_counted() -> None:
    hive = Hive(Key("R", 0, b"r" * 20))
    for number in range(10):
        hive.root.add(Key(str(number), 0, b"c" * 20 if number % 2 else b"", None))
    hive.root.make("1\\below")
    data = write_hive(hive)
    assert data.count(b"r" * 20) == data.count(b"c" * 20) == 1
    back = checked(data)
    below, four = back.find("1\\below"), back.find("4")
    assert below is not None and below.security == b"c" * 20
    assert four is not None and four.security == b"r" * 20, "a key without one has its parent's"


def test_a_root_without_descriptor_gets_the_usual_one() -> None:
    assert checked(write_hive(Hive(Key("R")))).root.security == DEFAULT


def test_a_root_from_another_hive_is_a_root_no_more() -> None:
    hive = Hive(Key("R", 0, DESCRIPTOR))
    hive.root.add(Key("was a root", 0, DESCRIPTOR, None, 0x2C))
    below = checked(write_hive(hive)).find("was a root")
    assert below is not None and not below.flags & 4


def test_a_predefined_handle_stays_one() -> None:
    hive = Hive(Key("R", 0, DESCRIPTOR))
    hive.root.add(Key("perf", 0, DESCRIPTOR, None, 0x40, predefined=0x80000050))
    below = checked(write_hive(hive)).find("perf")
    assert below is not None and (below.predefined, below.value_count) == (0x80000050, 0)
    below.set("v", 4, bytes(4))
    hive.root.add(below)
    with pytest.raises(HiveError, match="predefined handle"):
        write_hive(hive)


def deep(levels: int) -> Hive:
    hive = Hive(Key("R"))
    hive.root.make("\\".join(["k"] * levels))
    return hive


def test_what_the_format_cannot_hold_is_refused() -> None:
    assert checked(write_hive(deep(512))).counts() == (513, 0)
    for hive in (deep(513), Hive(Key("x" * 40000)), Hive(Key("ż" * 32768)), Hive(Key("R"), 7), Hive(Key("R"), 2)):
        with pytest.raises(HiveError):
            write_hive(hive)
    hive = Hive(Key("R"), 3)
    hive.root.set("v", 3, bytes(1 << 20))
    with pytest.raises(HiveError, match="cannot hold"):
        write_hive(hive)
    hive.minor = 4
    assert checked(write_hive(hive)).counts() == (1, 1)
    hive = Hive(Key("R"))
    hive.root.add(Key(""))
    with pytest.raises(HiveError, match="has no name"):
        write_hive(hive)
    hive = Hive(Key("R", class_name=bytes(65536)))
    with pytest.raises(HiveError, match="class name"):
        write_hive(hive)
