"""What the kernel relies on and reading does not need: order and hashes of subkeys, the ring of descriptors and its
counts, parents, the counters by which callers size their buffers. For `livelift hive check`.

A hive that was read is sound so far that its offsets can be followed here without looking.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from livelift.registry.base_block import BaseBlock
from livelift.registry.casing import fold, order
from livelift.registry.cells import NONE, Cells
from livelift.registry.lists import name_hash
from livelift.registry.reader import COMPRESSED, COMPRESSED_VALUE, KEY_NODE, PREDEFINED, RESIDENT, VALUE, text_at
from livelift.registry.security import CELL

SHOWN: Final = 20
"""Findings of one kind that are told by cell; of the others their number is."""


@dataclass(slots=True)
class Inspection:
    """``findings``: in words, with the cell. ``counts``: by kind of finding."""

    findings: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    lists: Counter[str] = field(default_factory=Counter)
    descriptors: int = 0
    largest_leaf: int = 0

    def found(self, kind: str, offset: int, text: str) -> None:
        self.counts[kind] += 1
        if self.counts[kind] <= SHOWN:
            self.findings.append(f"cell at 0x{offset:x}: {text}")


def inspect(cells: Cells, block: BaseBlock) -> Inspection:
    """Walk a hive that was read from these cells before."""
    bins, found = cells.bins, Inspection()
    uses: Counter[int] = Counter()
    waiting = [(block.root, NONE)]
    while waiting:
        offset, parent = waiting.pop()
        node = KEY_NODE.unpack_from(bins, offset + 4)
        if parent != NONE and node[4] != parent:
            found.found("parent", offset, f"its parent is 0x{parent:x}, it says 0x{node[4]:x}")
        uses[node[11]] += 1
        if node[9] and not node[1] & PREDEFINED:
            _counters(bins, offset, node, found)
        if node[5]:
            children = _subkeys(bins, node[7], found)
            names = [_key_name(bins, child) for child in children]
            longest = max(len(name.encode("utf-16-le", "surrogatepass")) for name in names)
            if longest > node[13]:
                found.found("counter", offset, f"a subkey's name has {longest} bytes, it tells of {node[13]}")
            waiting.extend((child, offset) for child in reversed(children))
    _ring(bins, uses, found)
    return found


def _key_name(bins: memoryview, offset: int) -> str:
    node = KEY_NODE.unpack_from(bins, offset + 4)
    return text_at(bins, offset + 80, node[19], node[1] & COMPRESSED, offset)


def _subkeys(bins: memoryview, offset: int, found: Inspection) -> list[int]:
    magic, count = struct.unpack_from("<2sH", bins, offset + 4)
    found.lists[magic.decode()] += 1
    leaves = struct.unpack_from(f"<{count}I", bins, offset + 8) if magic == b"ri" else (offset,)
    children: list[int] = []
    before = b""
    for leaf in leaves:
        magic, count = struct.unpack_from("<2sH", bins, leaf + 4)
        if leaf != offset:
            found.lists[magic.decode()] += 1
        found.largest_leaf = max(found.largest_leaf, count)
        step = 4 if magic == b"li" else 8
        for index in range(count):
            (child,) = struct.unpack_from("<I", bins, leaf + 8 + step * index)
            children.append(child)
            folded = fold(_key_name(bins, child))
            here = order(folded)
            if here <= before:
                found.found("order", leaf, f"subkey {folded!r} is out of order: the kernel would not find it")
            before = here
            if magic == b"lh":
                (hashed,) = struct.unpack_from("<I", bins, leaf + 12 + step * index)
                if hashed != name_hash(folded):
                    found.found("hash", leaf, f"the hash of subkey {folded!r} is wrong: the kernel would not find it")
    return children


def _counters(bins: memoryview, offset: int, node: tuple[int, ...], found: Inspection) -> None:
    names = data = 0
    for cell in struct.unpack_from(f"<{node[9]}I", bins, node[10] + 4):
        _, name_size, size, _, _, flags, _ = VALUE.unpack_from(bins, cell + 4)
        names = max(names, name_size << 1 if flags & COMPRESSED_VALUE else name_size)
        data = max(data, size & ~RESIDENT)
    if names > node[16] or data > node[17]:
        found.found(
            "counter", offset, f"values have up to {names} and {data} bytes, it tells of {node[16]}, {node[17]}"
        )


def _ring(bins: memoryview, uses: Counter[int], found: Inspection) -> None:
    """Every descriptor in use is in the ring of the first one, its neighbours agree, and it counts its keys."""
    uses.pop(NONE, None)
    if not uses:
        return
    first = here = next(iter(uses))
    seen: set[int] = set()
    while here not in seen and here in uses:
        seen.add(here)
        _, _, after, _, count, _ = CELL.unpack_from(bins, here + 4)
        if count != uses[here]:
            found.found("uses", here, f"{uses[here]} keys have this descriptor, it counts {count}")
        if after in uses and CELL.unpack_from(bins, after + 4)[3] != here:
            found.found("ring", here, "the next descriptor does not point back to this one")
        here = after
    found.descriptors = len(uses)
    if here != first:
        found.found("ring", here, "the ring of descriptors leads to one that no key has")
    elif len(seen) < len(uses):
        found.found("ring", first, f"{len(uses) - len(seen)} descriptors are not in the ring")
