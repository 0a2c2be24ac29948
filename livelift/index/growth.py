"""What told records mean for an object's size and for the digests of its blocks, said once for many of them.

Each question to the index lets other threads have the interpreter, and then waits for it again: of 64 KiB writes at a
disk's speed a batch has more than a hundred, mostly of one file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from livelift.model.record import Kind, Range, Reflink

GROWS: Final = "max(size, ?)"
"""The new size, as SQL, of `Change.value`: at least that."""
SHIFTS: Final = "size + ?"
SETS: Final = "?"
END: Final = 1 << 62


class Change(NamedTuple):
    """``size``: one of the three above. ``spans``: (from, to) in bytes of content that is not what it was."""

    oid: int
    size: str
    value: int
    spans: list[tuple[int, int]]


def changes(told: Iterable[tuple[Kind, Range | Reflink]]) -> Iterator[Change]:
    """In the order that matters: of each object by itself."""
    spans: dict[int, list[tuple[int, int]]] = {}
    least: dict[int, int] = {}  # sizes
    for kind, body in told:
        oid, first, end = body.oid, body.offset, body.offset + body.length
        if kind is Kind.TRUNCATE or kind is Kind.COLLAPSE or kind is Kind.INSERT:
            if oid in spans:
                yield Change(oid, GROWS, least.pop(oid, 0), spans.pop(oid))
            if kind is Kind.TRUNCATE:
                yield Change(oid, SETS, first, [(first, END)])
            else:
                yield Change(oid, SHIFTS, -body.length if kind is Kind.COLLAPSE else body.length, [(first, END)])
            continue
        if oid in spans:
            spans[oid].append((first, end))
        else:
            spans[oid] = [(first, end)]
        keeps = kind is Kind.PUNCH or (isinstance(body, Range) and body.flags)
        if not keeps and end > least.get(oid, 0):
            least[oid] = end
    for oid, changed in spans.items():
        yield Change(oid, GROWS, least.get(oid, 0), changed)
