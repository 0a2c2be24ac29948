"""USN records become events. Pure: the journal is read elsewhere.

A record tells a kind of change once for as long as the object is open: a database that writes for days through one
handle has one record. So an object with a change that has no CLOSE record yet is *open*, and is marked again and again
(`Translator.still_open`) until it is closed.
"""

from __future__ import annotations

from collections.abc import Iterable

from livelift.model.entry import object_id
from livelift.platform.windows import usn
from livelift.platform.windows.information import DIRECTORY, fold_reference, to_ns
from livelift.platform.windows.usn import UsnRecord
from livelift.ports import Dirty, Event, Named, Op


class Translator:
    """One volume's records, in order."""

    def __init__(self, volume: int) -> None:
        self._volume = volume
        self._renames: dict[int, UsnRecord] = {}  # first halves, by reference
        self._open: dict[int, tuple[int, bytes]] = {}  # object -> where it was changed
        self._told: dict[int, int] = {}  # reasons already told of an open object

    def events(self, records: Iterable[UsnRecord]) -> list[Event]:
        events: list[Event] = []
        for record in records:
            if not usn.fits(record.reference) or not usn.fits(record.parent):
                raise ValueError(f"a file reference of 128 bits at USN {record.usn}: not NTFS")
            if record.version == 4:
                events += self._marked(record, self._object(record.reference), 0, b"", 0)
            else:
                events += self._one(record)
        return events

    def still_open(self) -> list[Event]:
        """Marks for everything that was changed through a handle that nobody has closed yet."""
        return [Dirty(oid, True, parent, name) for oid, (parent, name) in self._open.items()]

    def _object(self, reference: int) -> int:
        return object_id(self._volume, fold_reference(reference))

    def _one(self, record: UsnRecord) -> list[Event]:
        """Reasons add up while the object is open: only what was not told of it yet is news."""
        oid, parent = self._object(record.reference), self._object(record.parent)
        is_dir = bool(record.attributes & DIRECTORY)
        time = to_ns(record.time)
        told = self._told.get(oid, 0)
        news = record.reason & ~told
        closes = bool(record.reason & usn.CLOSE)
        if closes:
            self._told.pop(oid, None)
        else:
            # A second rename of one open object repeats both reasons: they are never taken as told.
            self._told[oid] = told | record.reason & ~(usn.RENAME_OLD | usn.RENAME_NEW | usn.HARD_LINK_CHANGE)
        events: list[Event] = []
        if record.reason & usn.RENAME_OLD and not record.reason & usn.RENAME_NEW:
            self._renames[record.reference] = record
        elif record.reason & usn.RENAME_NEW and not closes:
            events += self._renamed(record, oid, parent, is_dir, time)
        if news & usn.FILE_CREATE:
            events.append(Named(Op.CREATED, parent, record.name, oid, is_dir=is_dir, time=time))
        if record.reason & usn.HARD_LINK_CHANGE and not closes:
            events.append(Named(Op.TOUCHED, parent, record.name, time=time))
        if news & usn.FILE_DELETE:
            self._open.pop(oid, None)
            events.append(Named(Op.REMOVED, parent, record.name, oid, is_dir=is_dir, time=time))
            return events
        return events + self._marked(record, oid, 0 if is_dir else parent, b"" if is_dir else record.name, time)

    def _renamed(self, record: UsnRecord, oid: int, parent: int, is_dir: bool, time: int) -> list[Event]:
        first = self._renames.pop(record.reference, None)
        if first is None:  # its first half came before the journal was read
            return [Named(Op.TOUCHED, parent, record.name, is_dir=is_dir, time=time)]
        if oid in self._open:
            self._open[oid] = (parent, record.name)
        old = self._object(first.parent)
        return [Named(Op.RENAMED, old, first.name, oid, parent, record.name, is_dir, time=time)]

    def _marked(self, record: UsnRecord, oid: int, parent: int, name: bytes, time: int) -> list[Event]:
        reasons = record.reason & ~usn.NAMES & ~usn.CLOSE
        if not reasons:
            if record.reason & usn.CLOSE:
                self._open.pop(oid, None)
            return []
        content = bool(reasons & usn.CONTENT)
        if record.reason & usn.CLOSE:
            self._open.pop(oid, None)
        elif content:
            self._open[oid] = (parent, name)
        return [Dirty(oid, content, parent, name, b"", time)]
