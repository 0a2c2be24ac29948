"""Hostile hives, logs and .reg text: only HiveError comes out, quickly, and no more memory than bytes came in.

python -m pytest tests/fuzz/fuzz_registry.py            a short run
FUZZ_EXAMPLES=1000000 python -m pytest ...              a long one
"""

from __future__ import annotations

import struct
import tracemalloc
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from livelift.errors import HiveError
from livelift.registry.inspect import inspect
from livelift.registry.marvin import marvin
from livelift.registry.reader import open_hive, tree_of
from livelift.registry.regtext import HEADER, apply, decode, parse
from livelift.registry.tree import Hive, Key
from livelift.registry.writer import write_hive
from tests.fuzz.fuzz_codec import hard
from tests.registry.raw import sample, sealed
from tests.registry.test_corruption import small
from tests.registry.test_logs import DIRTY, base_block

WHOLE = [small(), sample(3), sample()]
WORDS = st.one_of(
    st.integers(0, 2**32 - 1), st.integers(0, 1200).map(lambda n: 8 * n), st.sampled_from([0, 0xFFFFFFFF, 0x80000000])
)


def use(data: bytes, logs: list[bytes]) -> None:
    """Read and use it within fifty times its size; a small Python object stands for a few bytes of a cell."""
    tracemalloc.start()
    try:
        with suppress(HiveError):
            opened = open_hive(data, logs)
            hive = tree_of(opened)
            inspect(opened.cells, opened.block)
            write_hive(hive)
        assert tracemalloc.get_traced_memory()[1] < 50 * (len(data) + sum(map(len, logs))) + 1_000_000
    finally:
        tracemalloc.stop()


@hard
@given(st.sampled_from(WHOLE), st.lists(st.tuples(st.integers(1024, 2047), WORDS), max_size=6))
def test_words_of_a_hive(whole: bytes, words: list[tuple[int, int]]) -> None:
    data = bytearray(whole)
    for at, word in words:
        struct.pack_into("<I", data, 4 * at % len(data), word)
    use(bytes(data), [])


@hard
@given(st.sampled_from(WHOLE), st.lists(st.tuples(st.integers(0, 126), WORDS), min_size=1, max_size=4))
def test_the_base_block(whole: bytes, words: list[tuple[int, int]]) -> None:
    data = bytearray(whole)
    for at, word in words:
        struct.pack_into("<I", data, 4 * at, word)
    use(sealed(bytes(data)), [])


@hard
@given(st.binary(max_size=2000), st.integers(0, 4))
def test_cells_of_anything(cells: bytes, root: int) -> None:
    bins = struct.pack("<4sII20x", b"hbin", 0, 4096) + cells.ljust(4064, b"\0")
    use(base_block(4096, 32 + 8 * root) + bins, [])


@hard
@given(
    st.sampled_from([1, 2, 6]), st.integers(0, 12), WORDS, WORDS, st.lists(st.tuples(WORDS, WORDS), max_size=3),
    st.binary(max_size=3000),
)  # fmt: skip
def test_logs(kind: int, sequence: int, size: int, count: int, pages: list[tuple[int, int]], rest: bytes) -> None:
    """Entries whose checksums are right, with anything in them; vectors of any kind."""
    body = b"".join(struct.pack("<II", *page) for page in pages) + rest
    length = -(-(40 + len(body)) // 512) * 512
    body = body.ljust(length - 40, b"\0")
    count = len(pages) if count % 2 else count
    head = struct.pack("<4sIIIIIQ", b"HvLE", length, 0, sequence, size & ~4095, count, marvin(body))
    block = base_block(size & ~4095 if kind != 6 else 4096, 32, sequences=(sequence, sequence), kind=kind)[:512]
    entry = head + struct.pack("<Q", marvin(head)) + body if kind == 6 else b"DIRT" + rest
    use(DIRTY, [block + entry])


@hard
@given(st.binary(max_size=300))
def test_text_of_any_bytes(raw: bytes) -> None:
    with suppress(HiveError):
        parse(decode(raw))


PIECES = [
    "[",
    "]",
    "-",
    "HKLM\\S",
    "\\",
    '"',
    "=",
    "hex:",
    "hex(7):",
    "dword:",
    "0a",
    ",",
    "\\\r\n",
    "\n",
    " ",
    ";",
    "@",
    "ż",
]


@hard
@given(st.lists(st.sampled_from(PIECES), max_size=40))
def test_text_of_likely_pieces(pieces: list[str]) -> None:
    hive = Hive(Key("R"))
    with suppress(HiveError):
        apply(hive, parse(f"{HEADER}\n\n[HKLM\\S\\a]\n" + "".join(pieces)), "HKEY_LOCAL_MACHINE\\S", 0)
        write_hive(hive)
