"""What differs between two trees, by path and by value.

Keys and values pair up by name without regard to case. Not compared: the order of values, the places of cells, the
access bits (the kernel's note of who used the key since boot), and whether a name is stored as Latin-1. Time stamps
only on request: every boot changes them by the thousand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from livelift.registry.reader import COMPRESSED
from livelift.registry.tree import SEPARATOR, Key, Value

Change = Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True)
class Difference:
    """``path``: of the key. ``value``: the name of the value it is about ("" for the default one), None if it is about
    the key itself. ``aspects``: what has changed: for a key "name" (its spelling), "security", "class", "flags",
    "timestamp"; for a value "name", "type", "data", "flags". Of a key that was added or removed every key and value
    below is told as well."""

    change: Change
    path: str
    value: str | None
    aspects: tuple[str, ...]
    old: Key | Value | None
    new: Key | Value | None


def compare(old: Key, new: Key, *, timestamps: bool = False, path: str = "") -> Iterator[Difference]:
    """The differences, parents first, those of one key in the order of their names."""
    waiting: list[tuple[str, Key | None, Key | None]] = [(path, old, new)]
    while waiting:
        here, before, after = waiting.pop()
        if before is None or after is None:
            yield Difference("added" if before is None else "removed", here, None, (), before, after)
        elif aspects := _key_aspects(before, after, timestamps):
            yield Difference("changed", here, None, aspects, before, after)
        yield from _values(here, before, after)
        old_keys = before._subkeys if before else {}
        new_keys = after._subkeys if after else {}
        prefix = here + SEPARATOR if here else ""
        for folded in sorted(old_keys.keys() | new_keys.keys(), reverse=True):
            one, other = old_keys.get(folded), new_keys.get(folded)
            name = (other or one or old).name  # one of the two is there
            waiting.append((prefix + name, one, other))


def _values(path: str, before: Key | None, after: Key | None) -> Iterator[Difference]:
    old_values = before._values if before else {}
    new_values = after._values if after else {}
    for folded in sorted(old_values.keys() | new_values.keys()):
        one, other = old_values.get(folded), new_values.get(folded)
        if one is None:
            assert other is not None
            yield Difference("added", path, other.name, (), None, other)
        elif other is None:
            yield Difference("removed", path, one.name, (), one, None)
        elif aspects := _value_aspects(one, other):
            yield Difference("changed", path, other.name, aspects, one, other)


def _key_aspects(old: Key, new: Key, timestamps: bool) -> tuple[str, ...]:
    found = []
    if old.name != new.name:
        found.append("name")
    if old.security != new.security:
        found.append("security")
    if (old.class_name or b"") != (new.class_name or b""):
        found.append("class")
    if (old.flags ^ new.flags) & ~COMPRESSED or old.control != new.control or old.predefined != new.predefined:
        found.append("flags")
    if timestamps and old.timestamp != new.timestamp:
        found.append("timestamp")
    return tuple(found)


def _value_aspects(old: Value, new: Value) -> tuple[str, ...]:
    return tuple(aspect for aspect in ("name", "type", "data", "flags") if getattr(old, aspect) != getattr(new, aspect))
