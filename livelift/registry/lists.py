"""Subkey lists: leaves (li, lf, lh) and the index root (ri) above several of them.

A leaf: signature, u16 count, then per subkey its offset, in lf with the first four characters of its name, in lh with
a hash of it. An index root: "ri", u16 count, offsets of leaves; it is one level only.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from livelift.errors import HiveError
from livelift.registry.allocator import Allocator
from livelift.registry.cells import Cells, damaged
from livelift.registry.tree import Key

STEP: Final = {b"li": 4, b"lf": 8, b"lh": 8}
"""Bytes per subkey."""
LEAF: Final = 507
"""Subkeys per leaf that we write: what fits a bin of 4096 bytes, and all that Windows 7 puts in one. Newer ones put 968
and more."""
_HEAD = struct.Struct("<2sH")


def subkey_offsets(cells: Cells, offset: int, count: int) -> Sequence[int]:
    """The offsets of the ``count`` subkeys in the list at ``offset``; HiveError if there are not as many."""
    bins = cells.bins
    space = cells.take(offset, 4, "a list of subkeys")
    magic, entries = _HEAD.unpack_from(bins, offset + 4)
    if magic != b"ri":
        found = _leaf(cells, offset, space)
    else:
        if 4 * entries > space - 4:
            raise damaged(f"{entries} lists of subkeys do not fit", offset)
        collected: list[int] = []
        for leaf in struct.unpack_from(f"<{entries}I", bins, offset + 8):
            collected.extend(_leaf(cells, leaf, cells.take(leaf, 4, "a list of subkeys")))
        found = collected
    if len(found) != count:
        raise damaged(f"a list of {len(found)} subkeys where the key tells of {count}", offset)
    return found


def _leaf(cells: Cells, offset: int, space: int) -> Sequence[int]:
    magic, count = _HEAD.unpack_from(cells.bins, offset + 4)
    step = STEP.get(magic)
    if step is None:
        raise damaged("a list of subkeys was expected here", offset)
    if count * step > space - 4:
        raise damaged(f"{count} subkeys do not fit", offset)
    if step == 4:
        return struct.unpack_from(f"<{count}I", cells.bins, offset + 8)
    return struct.unpack_from(f"<{2 * count}I", cells.bins, offset + 8)[::2]


@lru_cache(maxsize=65536)
def name_hash(folded: str) -> int:
    """Of an upper-case name, per UTF-16 unit: h = 37 h + unit, 32 bits (lh)."""
    total = 0
    units = (
        folded.encode("latin-1")
        if folded.isascii()
        else memoryview(folded.encode("utf-16-le", "surrogatepass")).cast("H")
    )
    for unit in units:
        total = (total * 37 + unit) & 0xFFFFFFFF
    return total


def put_subkeys(
    into: Allocator, minor: int, children: Sequence[Key], folded: Sequence[str], cells: Sequence[int]
) -> int:
    """The list of subkeys, sorted already; hash leaves since 1.5, fast leaves before."""
    if minor >= 5:
        magic, hints = b"lh", [name_hash(name) for name in folded]
    else:
        magic, hints = b"lf", [_hint(child.name) for child in children]
    leaves = []
    for start in range(0, len(cells), LEAF):
        some = cells[start : start + LEAF]
        pairs = [word for pair in zip(some, hints[start : start + LEAF], strict=True) for word in pair]
        leaves.append(into.put(struct.pack(f"<2sH{len(pairs)}I", magic, len(some), *pairs)))
    if len(leaves) == 1:
        return leaves[0]
    if len(leaves) > 0xFFFF:
        raise HiveError(f"a key cannot have {len(cells)} subkeys", remedy="spread them over several keys")
    return into.put(struct.pack(f"<2sH{len(leaves)}I", b"ri", len(leaves), *leaves))


def _hint(name: str) -> int:
    """The first four characters; zero where one of them has no byte."""
    try:
        return int.from_bytes(name[:4].encode("latin-1"), "little")
    except UnicodeEncodeError:
        return 0
