"""What holds of a tree index at every commit, whatever was done to the tree: each directory has one place, every way up
ends at a root or in limbo, and a name leads to an object of one type.

Asked of the source's index after each pair of agents (`LivePair`): two faults that were found late, by directories that
lay in each other and by names made twice, break one of these at once.
"""

from __future__ import annotations

import sqlite3
import stat
from collections import defaultdict
from pathlib import Path


def faults(index: Path) -> list[str]:
    """What is wrong with the index file (see `livelift.index.tree`) of an agent that has ended; empty: nothing."""
    with sqlite3.connect(f"file:{index}?mode=ro", uri=True) as db:
        rows = db.execute("SELECT parent, name, oid, mode FROM entry").fetchall()
    db.close()
    places: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
    types: dict[int, set[int]] = defaultdict(set)
    for parent, name, oid, mode in rows:
        places[oid].append((parent, name))
        types[oid].add(stat.S_IFMT(mode))
    found = [f"object {oid} has the types {sorted(map(oct, kinds))}" for oid, kinds in types.items() if len(kinds) > 1]
    directories = {oid for oid, kinds in types.items() if stat.S_IFDIR in kinds}
    found += [f"directory {oid} has the places {places[oid]}" for oid in directories if len(places[oid]) > 1]
    found += [
        f"{name!r} lies in {parent}, which is no directory"
        for parent, name, _, _ in rows
        if parent > 0 and parent not in directories
    ]
    ends: set[int] = set()  # directories whose way up ends
    for start in directories:
        way: list[int] = []
        oid = start
        while oid > 0 and oid not in ends and oid in directories and oid not in way:
            way.append(oid)
            oid = places[oid][0][0]
        if oid in way:
            found.append(f"directory {oid} lies in itself: {way}")
        ends.update(way)
    return found
