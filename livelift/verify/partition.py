"""Compares two hard-link partitions, given as rows (path, smallest path of its group) in order of path. Pure.

A name that exists on one side only is reported as missing or extra, not again here: groups are compared as far as
both sides have the names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from livelift.verify.compare import LINK, Difference, show

Row = tuple[bytes, bytes]


class LinkComparison:
    """Feed the target's rows in order, in any portions; equal rows are forgotten at once."""

    def __init__(self, map_index: int, source: Iterable[Row]) -> None:
        self._map = map_index
        self._source: Iterator[Row] = iter(source)
        self._next: Row | None = next(self._source, None)
        self._ours: list[Row] = []
        self._theirs: list[Row] = []

    def feed(self, rows: Iterable[Row]) -> None:
        for row in rows:
            while self._next is not None and self._next[0] < row[0]:
                self._ours.append(self._next)
                self._next = next(self._source, None)
            if self._next is not None and self._next[0] == row[0]:
                if self._next != row:
                    self._ours.append(self._next)
                    self._theirs.append(row)
                self._next = next(self._source, None)
            else:
                self._theirs.append(row)

    def finish(self, missing: Callable[[bytes], bool], extra: Callable[[bytes], bool]) -> list[Difference]:
        """``missing``: paths that the target lacks (or has as another type); ``extra``: that the source lacks."""
        if self._next is not None:
            self._ours.append(self._next)
            self._ours.extend(self._source)
            self._next = None
        ours = _labels(self._ours, missing)
        theirs = _labels(self._theirs, extra)
        return [
            Difference(self._map, path, LINK, _text(ours.get(path)), _text(theirs.get(path)))
            for path in sorted(ours.keys() | theirs.keys())
            if ours.get(path) != theirs.get(path)
        ]


def _labels(rows: list[Row], absent: Callable[[bytes], bool]) -> dict[bytes, bytes]:
    """Path -> smallest path of its group, among the paths that the other side has too.

    If a label is absent on the other side, no row of its group can have been equal there, so the whole group is in
    ``rows``.
    """
    groups: dict[bytes, list[bytes]] = {}
    for path, label in rows:
        groups.setdefault(label, [label]).append(path)
    labels: dict[bytes, bytes] = {}
    for members in groups.values():
        present = [path for path in members if not absent(path)]
        labels.update((path, present[0]) for path in present[1:])
    return labels


def _text(label: bytes | None) -> str:
    return "no link" if label is None else f"link to {show(label)}"
