"""Directories in which names have changed behind the log's last word about their attributes.

What changed the names on the target gave those directories the time of the replay there. Whoever follows an event of
the source reads them again anyway; but names are also said again (a resync, a repair), or found by a rescan, and then
nothing happens on the source that would ask for it.
"""

from __future__ import annotations

from livelift.model.record import BaseFile, Body, Kind, Link, Make, Rename, SetAttributes, Unlink


class Untimed(set[int]):
    """Their object ids; a map's place (0) and limbo are among them and mean nothing. Part of the fold of the log."""

    def fold(self, kind: Kind, body: Body) -> None:
        match body:
            case Make() | Link():
                self.add(body.parent)
            case Unlink():
                self.discard(body.oid)
                self.add(body.parent)
            case Rename():
                self.update((body.parent, body.new_parent))
            case SetAttributes():
                self.discard(body.oid)
            case BaseFile() if kind is not Kind.BASE_END:
                self.add(body.parent)
