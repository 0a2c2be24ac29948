"""Taking keys over from one tree into another."""

from __future__ import annotations

from livelift.registry.tree import SEPARATOR, Key, Value


def unite(into: Key, other: Key) -> None:
    """All that ``other`` has comes into ``into``; where both have a value, that of ``other`` wins. A key that is new
    comes with its time stamp, class name, flags and security; one that exists keeps its own, and takes the later time
    stamp if a value changed. What only ``into`` has stays."""
    waiting = [(into, other)]
    while waiting:
        mine, theirs = waiting.pop()
        changed = False
        for folded, value in theirs._values.items():
            old = mine._values.get(folded)
            if old is None or (old.type, old.data, old.flags) != (value.type, value.data, value.flags):
                name = old.name if old else value.name
                mine._values[folded] = Value(name, value.type, value.data, value.flags)
                changed = True
        if changed:
            mine.timestamp = max(mine.timestamp, theirs.timestamp)
        for folded, child in theirs._subkeys.items():
            own = mine._subkeys.get(folded)
            if own is None:
                mine._subkeys[folded] = child.copy()
            else:
                waiting.append((own, child))


def graft(root: Key, path: str, key: Key) -> Key:
    """A copy of ``key`` and all below it at ``path`` below ``root``, in place of what is there. Missing parents are
    made. The copy's name is the last one of the path, in the spelling of the path."""
    parent, _, name = path.rpartition(SEPARATOR)
    if not name:
        raise ValueError("a root cannot be replaced")
    twin = key.copy()
    twin.name = name
    root.make(parent, key.timestamp).add(twin)
    return twin
