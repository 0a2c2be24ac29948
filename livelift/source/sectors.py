"""Files that refuse a normal read, from their disk's sectors: only where the room `walk.locked` calls it sound."""

from __future__ import annotations

from collections.abc import Iterator

from livelift.model.entry import Attributes
from livelift.source.edge import attributes_at, read_locked
from livelift.source.live import Gone, Live, Moved


class SectorReader:
    def __init__(self, live: Live) -> None:
        self._live = live

    def read(self, oid: int, place: tuple[int, bytes]) -> tuple[Attributes, Iterator[tuple[int, bytes]]] | None:
        """(attributes, chunks). None if the object is not there; iterating raises LiveliftError where its sectors
        cannot be
        trusted or it changed meanwhile: then nothing that came before counts."""
        try:
            with self._live.directory(place[0]) as fd:
                attributes = attributes_at(fd, place[1])
        except (Moved, Gone, FileNotFoundError):
            return None
        return attributes, self._chunks(place)

    def _chunks(self, place: tuple[int, bytes]) -> Iterator[tuple[int, bytes]]:
        with self._live.directory(place[0]) as fd:
            yield from read_locked(fd, place[1])
