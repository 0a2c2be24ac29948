"""Dirty hives and their logs: what is replayed, what is not believed, and that a lack is said."""

from __future__ import annotations

import struct

import pytest

from livelift.errors import HiveError
from livelift.registry.marvin import marvin
from livelift.registry.reader import read_hive
from livelift.registry.tree import Hive
from tests.registry.hives import real
from tests.registry.raw import Raw, base_block, sealed

BLOCK = 4096


def hive(number: int, sequences: tuple[int, int] = (8, 7), blocks: int = 1) -> bytes:
    """A hive whose value tells its generation; of ``blocks`` blocks."""
    raw = Raw()
    values = raw.offsets([raw.value(b"generation", 4, 0x80000004, number)])
    root = raw.key(b"R", flags=0x2C, values=(1, values))
    if blocks > 1:
        raw.cell(bytes(BLOCK * (blocks - 1)), used=False)
    return raw.hive(root, sequences=sequences)


def root_of(data: bytes) -> int:
    return int(struct.unpack_from("<I", data, 36)[0])


def entry(sequence: int, after: bytes, pages: list[int]) -> bytes:
    """A log entry with whole blocks of the hive ``after``."""
    bins = after[BLOCK:]
    body = b"".join(struct.pack("<II", BLOCK * page, BLOCK) for page in pages)
    body += b"".join(bins[BLOCK * page : BLOCK * (page + 1)] for page in pages)
    size = -(-(40 + len(body)) // 512) * 512
    body = body.ljust(size - 40, b"\0")
    head = struct.pack("<4sIIIIIQ", b"HvLE", size, 0, sequence, len(bins), len(pages), marvin(body))
    return head + struct.pack("<Q", marvin(head)) + body


def log(first: int, *entries: bytes, root: int) -> bytes:
    return base_block(BLOCK, root, sequences=(first, first), kind=6)[:512] + b"".join(entries)


def generation(read: Hive) -> int:
    (value,) = read.root.values
    return int.from_bytes(value.data, "little")


DIRTY = hive(0)
ROOT = root_of(DIRTY)


def new(first: int, *generations: int) -> bytes:
    return log(first, *(entry(first + at, hive(n), [0]) for at, n in enumerate(generations)), root=ROOT)


@pytest.mark.parametrize(
    ("logs", "seen", "recovered", "dirty"),
    [
        ([], 0, 0, True),
        ([b"", bytes(1024)], 0, 0, True),
        ([new(7, 1, 2, 3)], 3, 3, False),
        ([new(7, 1, 2), new(9, 3, 4)], 4, 4, False),
        ([new(9, 3, 4), new(7, 1, 2)], 4, 4, False),
        ([new(5, 91, 92, 1, 2)], 2, 2, False),
        ([new(2000, 5, 6)], 6, 2, False),
        ([new(3, 91, 92)], 0, 0, True),
        ([new(7, 1, 2), new(8, 92, 3)], 3, 3, False),
        ([new(7, 1, 2), new(10, 4)], 2, 2, True),
        ([new(7, 1, 2)[:-600], b""], 1, 1, False),
        ([new(7, 1, 2) + new(7, 91)[512:]], 2, 2, False),
        ([new(7, 1, 2) + new(12, 91)[512:]], 2, 2, False),
    ],
    ids=[
        "no log", "empty logs", "one log", "two logs", "in any order", "entries that it has already", "a later start",
        "old entries only", "logs that overlap", "a gap between the logs", "a torn tail", "remains of an earlier round",
        "remains of another hive",
    ],
)  # fmt: skip
def test_new_logs(logs: list[bytes], seen: int, recovered: int, dirty: bool) -> None:
    read = read_hive(DIRTY, logs)
    assert (generation(read), read.recovered, read.dirty) == (seen, recovered, dirty)


def test_a_clean_hive_has_no_use_for_logs() -> None:
    read = read_hive(hive(0, (8, 8)), [new(8, 1)])
    assert (generation(read), read.recovered, read.dirty, read.notes) == (0, 0, False, [])


@pytest.mark.parametrize("at", [513, 516, 524, 528, 532, 536, 545, 552, 556, 600, 4000])
def test_an_entry_is_believed_only_whole(at: int) -> None:
    damaged = bytearray(new(7, 1, 2))
    second = 512 + len(entry(7, hive(1), [0]))
    damaged[second - 512 + at] ^= 4
    read = read_hive(DIRTY, [bytes(damaged)])
    assert (generation(read), read.recovered) == (1, 1)


def test_a_log_whose_header_is_torn_is_not_used() -> None:
    torn = bytearray(new(7, 1))
    torn[60] ^= 1
    read = read_hive(DIRTY, [bytes(torn)])
    assert (generation(read), read.dirty) == (0, True)
    assert "was being written" in read.notes[0]
    assert "is not one" in read_hive(DIRTY, [b"x" * 600]).notes[0]
    assert "no log (type 0)" in read_hive(DIRTY, [DIRTY]).notes[0]


def test_a_damaged_base_block_comes_back_from_the_log() -> None:
    broken = bytearray(DIRTY)
    broken[40] ^= 1
    with pytest.raises(HiveError, match="checksum"):
        read_hive(bytes(broken))
    read = read_hive(bytes(broken), [new(7, 1)])
    assert (generation(read), read.recovered, read.dirty) == (1, 1, False)


def test_a_hive_grows_with_its_log_by_what_the_log_carries() -> None:
    grown = hive(1, blocks=3)
    root = root_of(grown)
    read = read_hive(DIRTY, [log(7, entry(7, grown, [0, 1, 2]), root=root)])
    assert (generation(read), read.dirty) == (1, False)
    bomb = bytearray(entry(7, hive(1), [0]))
    struct.pack_into("<I", bomb, 16, 1 << 30)
    struct.pack_into("<Q", bomb, 32, marvin(bytes(bomb[:32])))
    read = read_hive(DIRTY, [log(7, bytes(bomb), root=root)])
    assert (generation(read), read.recovered, read.dirty) == (0, 0, True)
    assert "wants 1073741824 bytes" in read.notes[0]


def old(after: bytes, pages: list[int], *, sequences: tuple[int, int] = (8, 8), kind: int = 1) -> bytes:
    bins = after[BLOCK:]
    vector = bytearray(len(bins) // BLOCK)
    for page in pages:
        vector[page // 8] |= 1 << page % 8
    head = base_block(len(bins), root_of(after), sequences=sequences, kind=kind)[:512]
    dirt = b"DIRT" + bytes(vector)
    content = b"".join(bins[512 * page : 512 * (page + 1)] for page in pages)
    return head + dirt.ljust(-(-len(dirt) // 512) * 512, b"\0") + content


@pytest.mark.parametrize("pages", [[0], list(range(8))], ids=["one sector", "a block"])
def test_an_old_log_puts_back_its_sectors(pages: list[int]) -> None:
    read = read_hive(DIRTY, [b"", old(hive(5), pages)])
    assert (generation(read), read.recovered, read.dirty) == (5, 1, False)
    grown = read_hive(DIRTY, [old(hive(6, blocks=2), list(range(16)))])
    assert (generation(grown), grown.dirty) == (6, False)


def test_an_old_log_of_another_state_is_not_used() -> None:
    other = bytearray(old(hive(5), [0]))
    struct.pack_into("<Q", other, 12, 77)
    read = read_hive(DIRTY, [sealed(bytes(other[:512])) + bytes(other[512:])])
    assert (generation(read), read.dirty) == (0, True)
    assert "time stamps differ" in read.notes[0]
    assert read_hive(DIRTY, [old(hive(5), [0], sequences=(8, 7))]).dirty, "it was being written"
    assert read_hive(DIRTY, [old(hive(5), [0])[:-1]]).dirty, "it is cut off"
    assert read_hive(DIRTY, [old(hive(5), [0])[:512] + bytes(1024)]).dirty, "it has no vector"
    assert read_hive(DIRTY, [old(hive(5, blocks=9), [0])]).dirty, "it does not carry what it adds"


def test_an_old_log_brings_back_the_base_block() -> None:
    broken = bytearray(DIRTY)
    broken[509] ^= 1
    assert generation(read_hive(bytes(broken), [old(hive(5), [0])])) == 5


def test_the_next_hive_is_beyond_every_entry_of_its_logs() -> None:
    assert read_hive(DIRTY, [new(7, 1, 2, 3)]).sequence == 10
    assert read_hive(DIRTY).sequence == 9


def test_a_real_hive_with_real_logs() -> None:
    data, logs = real("SYSTEM_B"), [real("SYSTEM_B.LOG1"), real("SYSTEM_B.LOG2")]
    read = read_hive(data, logs)
    assert (read.counts(), read.recovered, read.dirty, read.notes) == ((35595, 78901), 24, False, [])
    without = read_hive(data)
    assert (without.counts(), without.dirty) == ((33123, 74957), True)
