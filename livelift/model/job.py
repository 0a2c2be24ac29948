"""A job: one migration and its control information (which source directory goes to which target directory, and how)."""

from __future__ import annotations

import msgspec


class Map(msgspec.Struct, frozen=True, array_like=True):
    """One line of the directory mapping. Paths are absolute; ``exclude``: fnmatch patterns on the path below source.

    A pattern with a slash is matched against the whole relative path, one without against the last name
    (as rsync's ``--exclude`` does). An ``include`` pattern wins over ``exclude``.
    """

    source: bytes
    target: bytes
    exclude: tuple[bytes, ...] = ()
    include: tuple[bytes, ...] = ()


class Job(msgspec.Struct, frozen=True, array_like=True):
    """What both agents agree on. ``id`` is hex, chosen by the target when it makes the pairing code."""

    id: str
    maps: tuple[Map, ...]
