"""The reader of changes: dirty objects are read and become records."""

from __future__ import annotations

import logging
import stat
import threading
import time
from collections.abc import Callable, Iterator

import msgspec

from livelift.errors import LiveliftError
from livelift.merge.blocks import SMALL
from livelift.merge.brackets import Brackets
from livelift.merge.names import make_kind
from livelift.model.entry import Attributes, Stamp, make_stamp
from livelift.model.problem import Problem
from livelift.model.record import BaseFile, Kind, Link, Make, Range, Record, SetAttributes, Unlink
from livelift.platform.system import os
from livelift.ports import Event
from livelift.source.bigfiles import BigFiles, is_cold
from livelift.source.content import Digests, Part, is_plain, parts_of, read_exactly, wants_digests
from livelift.source.dirty import Dirty, Mark
from livelift.source.edge import attributes_at, attributes_of_fd
from livelift.source.follower import Follower
from livelift.source.gaps import Gaps
from livelift.source.journal import Journal
from livelift.source.live import Gone, Live, Moved
from livelift.source.newcomers import Newcomers
from livelift.source.racy import is_racy, stamp_clock
from livelift.source.ready import Ready
from livelift.source.windowed import Windowed

log = logging.getLogger(__name__)

MAX_TRIES = 8

TOGETHER = 64
"""Small objects that are read one after the other and go into the log in one append."""

Sectors = Callable[[int, tuple[int, bytes]], tuple[Attributes, Iterator[tuple[int, bytes]]] | None]
"""Reads an object's content from its disk sectors: (attributes, (offset, bytes) chunks), None where that is not
sound."""


class Changes:
    """Threads call `run`, each for one lane: ``dirty`` for what changed, ``bulk`` for big files that the target has
    not at all (a terabyte must not stand before a small change). Never raises for trouble with a source file: that is
    a gap and a problem. ``exact``: the capture tells all content; a mark that asks for attributes is about them alone.
    ``still`` set: no more is begun, until it is cleared.
    """

    exact = False
    _windowed: Windowed | None = None

    def __init__(
        self,
        journal: Journal,
        live: Live,
        brackets: Brackets[Event],
        dirty: Dirty,
        bulk: Dirty,
        gaps: Gaps,
        follower: Follower,
        pause: threading.Event,
        sectors: Sectors,
    ) -> None:
        self._journal = journal
        self._live = live
        self._brackets = brackets
        self._dirty = dirty
        self._bulk = bulk
        self._gaps = gaps
        self._follower = follower
        self._pause = pause  # set: the spool is nearly full, marks wait and coalesce
        self._sectors = sectors
        self.still = threading.Event()
        self._big = BigFiles(journal, dirty, gaps)
        self._newcomers = Newcomers(journal, live, brackets, dirty, follower, self._full)
        self.problems: dict[int, Problem] = {}
        self._bytes = 0
        self.objects = 0

    def follow_exactly(self) -> None:
        """From here on the capture tells all content."""
        self.exact = True
        self._windowed = Windowed(self._journal, self._follower.told, self._gaps, self._big.outdated, self._big.stop)

    @property
    def bytes_read(self) -> int:
        windowed = self._windowed.bytes_read if self._windowed else 0
        return self._bytes + self._newcomers.bytes_read + self._big.bytes_read + windowed

    def run(self, lane: Dirty, stop: threading.Event) -> None:
        """Small changes go into the log together: one append, one wake-up of the sender."""
        together = 1 if lane is self._bulk else TOGETHER
        while not stop.is_set():
            if self._pause.is_set():
                stop.wait(0.1)
                continue
            if self.still.is_set():
                stop.wait(0.005)
                continue
            ready: list[tuple[int, Ready]] = []
            taken = lane.take_ready(0.1, together)
            try:
                for oid, mark in taken:
                    begun = time.monotonic()
                    made = self._one(oid, mark, lane)
                    if made is None:
                        lane.done(oid, time.monotonic() - begun)
                    else:
                        ready.append((oid, made))
                if ready:
                    self._put(ready)
            finally:
                for oid, _ in ready:
                    lane.done(oid, 0.0)
        self._big.stop.set()

    def _put(self, ready: list[tuple[int, Ready]]) -> None:
        with self._journal.lock:
            try:
                records = [record for _, made in ready for record in made.records()]
                lost = self._journal.emit(records) if records else []
                for _, made in ready:
                    made.after(lost)
            finally:
                for oid, made in ready:  # after its records: a change meanwhile is then one of a known file
                    if made.bracket:
                        self._follower.reopen(oid)
        self.objects += len(ready)

    def _one(self, oid: int, mark: Mark, lane: Dirty) -> Ready | None:
        """Read one object. Small ones are returned, with their bracket open; all else is in the log on return.

        Attributes alone need no bracket where the capture tells all else: what comes meanwhile is not in them.
        """
        with self._journal.lock:
            place = self._journal.index.place(oid)
            if place is not None and mark.place is not None:  # it became known by another name: this one is a link
                self._follower.look_at(*mark.place, mark.first)
            if (place is None and mark.place is None) or (place is not None and place[0] < 0):
                return None  # gone, or in limbo: whoever claims it marks it again
            known = self._journal.index.of(oid)
            alone = self._alone(oid, mark)
            if not alone and not self._brackets.open(oid):
                self._again(oid, mark, 0.05, lane)
                return None
            old = self._journal.index.blocks(oid)
            gap = self._gaps.number(oid)
        made: Ready | None = None
        try:
            if place is None:
                made = self._newcomers.read(oid, mark)
                return made
            assert known is not None
            if stat.S_ISREG(known.mode):
                made = self._file(oid, place, known.stamp, old, mark, lane, gap)
            else:
                made = self._other(oid, place, stat.S_IFMT(known.mode), mark, gap)
            if alone and made is not None:
                made = made._replace(bracket=False)
            self.problems.pop(oid, None)
        except (Moved, Gone, FileNotFoundError):
            assert place is not None
            self._missing(oid, place, mark, lane)
        except OSError as error:
            assert place is not None
            self._unreadable(oid, place, error)
        finally:
            if made is None and not alone:
                with self._journal.lock:
                    self._follower.reopen(oid)
        return made

    def _alone(self, oid: int, mark: Mark) -> bool:
        """Whether only attributes are to be looked at, whatever has changed since. The merge lock is held."""
        known = self._journal.index.of(oid)
        if not self.exact or mark.content or known is None:
            return False
        return not stat.S_ISREG(known.mode) or known.stamp.size >= 0

    def _full(self, oid: int, mark: Mark) -> None:
        """The full spool dropped its content. After its attributes, so that the fold ends with "content not known"."""
        self._gaps.open(oid, "spool full")
        self._dirty.add(oid, True, mark.first, delay=1.0)

    # -- kinds of objects --------------------------------------------------------------------------------------------

    def _file(
        self,
        oid: int,
        place: tuple[int, bytes],
        stamp: Stamp,
        old: tuple[int, bytes] | None,
        mark: Mark,
        lane: Dirty,
        gap: int,
    ) -> Ready | None:
        """``gap``: the opening that stood when the reading began."""
        began = stamp_clock()
        fd = self._live.open_file(oid, *place)
        try:
            st = os.fstat(fd)
            if self.exact and not mark.content and stamp.size >= 0:
                return self._whole(oid, attributes_of_fd(fd, st), [], mark, gap, began)
            if (stamp.size < 0 or old is None) and st.st_size > SMALL:
                if lane is not self._bulk:
                    self._bulk.add(oid, True, mark.first, delay=0.0)
                elif self._windowed is None:
                    self._big.base(oid, fd, st, mark.first, gap, began)
                elif not self._windowed.read(oid, fd, mark.first, gap, None, is_cold(st)):
                    self._full(oid, mark)
                return None
            if self._windowed is not None and st.st_size > SMALL:
                if not self._windowed.read(oid, fd, mark.first, gap, old, False):
                    self._full(oid, mark)
                return None
            attributes = attributes_of_fd(fd, st)
            if not mark.content and make_stamp(st.st_size, st.st_mtime_ns, 0)[:2] == stamp[:2]:
                return self._whole(oid, attributes, [], mark, gap, began)
            new = wants_digests(st.st_size)
            if new is None:
                if st.st_nlink == 1 and is_plain(st):
                    return self._whole(oid, attributes, [], mark, gap, began, read_exactly(fd, 0, st.st_size))
                return self._whole(oid, attributes, list(parts_of(fd, st, stamp.size, old, None)), mark, gap, began)
            elided = False
            for part in parts_of(fd, st, stamp.size, old, new):
                self._bytes += len(part.payload)
                lost = self._big.emit(oid, part, mark.first)
                if lost is None:
                    return None
                elided = elided or oid in lost
            self._finish(oid, attributes, mark.first, new, gap, is_racy(attributes.ctime, began))
            if elided:
                self._full(oid, mark)
            return None
        finally:
            os.close(fd)

    def _other(self, oid: int, place: tuple[int, bytes], kind: int, mark: Mark, gap: int) -> Ready | None:
        began = stamp_clock()
        if kind == stat.S_IFDIR:
            with self._live.directory(oid) as fd:
                attributes = attributes_of_fd(fd, os.fstat(fd))
        else:
            with self._live.directory(place[0]) as fd:
                st = os.stat(place[1], dir_fd=fd, follow_symlinks=False)
                if self._live.object_of(st) != oid or stat.S_IFMT(st.st_mode) != kind:
                    raise Moved(oid)  # its number was used again, and that is yet to be told
                attributes = attributes_at(fd, place[1])
            if (stat.S_ISLNK(st.st_mode) or st.st_rdev) and (mark.content or not self.exact):
                self._again_whole(oid, attributes, mark.first)
                return None
        return self._whole(oid, attributes, [], mark, gap, began)

    def _again_whole(self, oid: int, attributes: Attributes, at: int) -> None:
        """A symlink's text and a device's number never change: if the stamp did, the inode may have been used again for
        another one. So it is made anew."""
        with self._journal.lock:
            places = [p for p in self._journal.index.places(oid) if p[0] > 0]
            if not places:
                return
            first = places[0]
            records = [Record(Kind.UNLINK, Unlink(oid, *p), b"", at) for p in places]
            records.append(Record(make_kind(attributes.mode), Make(oid, *first, attributes), b"", at))
            records += [Record(Kind.LINK, Link(oid, *p, *first), b"", at) for p in places[1:]]
            self._journal.emit(records)
            for parent in {p[0] for p in places}:
                self._dirty.add(parent, False, at)
            self._gaps.close(oid)

    # -- into the log ------------------------------------------------------------------------------------------------

    def _finish(self, oid: int, attributes: Attributes, at: int, new: Digests, gap: int, racy: bool) -> None:
        """The end of a big file's changes."""
        with self._journal.lock:
            index = self._journal.index
            place = index.place(oid)
            if place is None or index.type_of(oid) != stat.S_IFREG:
                return
            self._journal.emit([Record(Kind.ATTRIBUTES, SetAttributes(oid, *place, attributes), b"", at)])
            if self._big.outdated(oid, gap, at):
                return
            if racy:
                index.set_racy(oid)
            index.set_blocks(oid, new.block, bytes(new.value))
            self._gaps.close(oid)

    def _whole(
        self,
        oid: int,
        attributes: Attributes,
        parts: list[Part],
        mark: Mark,
        gap: int,
        began: int,
        content: bytes | None = None,
    ) -> Ready:
        """A small file with its content (``content``: all of it in one run, for one record), or with neither any
        object's attributes alone. ``began``: as for `is_racy`."""
        racy = is_racy(attributes.ctime, began)
        self._bytes += sum(len(p.payload) for p in parts) + len(content or b"")

        stranger = False

        def records() -> list[Record]:
            nonlocal stranger
            place = self._journal.index.place(oid)
            if place is None:
                return []
            if self._journal.index.type_of(oid) != stat.S_IFMT(attributes.mode):  # another object has the number now
                self._dirty.add(oid, True, mark.first)
                stranger = True
                return []
            if content is not None:
                if len(self._journal.index.places(oid)) == 1:
                    extents = ((0, len(content)),) if content else ()
                    return [Record(Kind.FILE, BaseFile(oid, *place, attributes, extents), content, mark.first)]
                # Its last other name is gone, but the log does not say so yet: as a FILE it would become another file.
                parts[:] = [Part(Kind.TRUNCATE, len(content), 0)]
                if content:
                    parts.append(Part(Kind.WRITE, 0, len(content), content))
            made = [Record(p.kind, Range(oid, *place, p.offset, p.length), p.payload, mark.first) for p in parts]
            now = attributes
            if self.exact and not parts and attributes.is_file:  # the log goes on with its own size
                known = self._journal.index.of(oid)
                now = msgspec.structs.replace(attributes, size=max(known.stamp.size, 0) if known else 0)
            return [*made, Record(Kind.ATTRIBUTES, SetAttributes(oid, *place, now), b"", mark.first)]

        def after(lost: list[int]) -> None:
            if stranger:
                return  # nothing was said of it, so nothing is closed
            if oid in lost:
                self._full(oid, mark)
            elif not self._big.outdated(oid, gap, mark.first):
                read = bool(parts) or content is not None
                # A stamp with changes in it that are yet to be told says nothing about the content in the log.
                if racy or (self.exact and attributes.is_file and not read):
                    self._journal.index.set_racy(oid)
                if read:
                    self._journal.index.drop_blocks(oid)
                if attributes.is_dir:
                    if self._gaps.is_open(oid):  # closes when it has been listed
                        self._follower.walk(oid, False)
                elif read or not attributes.is_file:
                    self._gaps.close(oid)

        return Ready(records, after)

    # -- trouble -----------------------------------------------------------------------------------------------------

    def _again(self, oid: int, mark: Mark, delay: float, lane: Dirty, tries: int = 0, position: int = 0) -> None:
        lane.again(oid, mark._replace(tries=tries), delay, position)

    def _missing(self, oid: int, place: tuple[int, bytes], mark: Mark, lane: Dirty) -> None:
        """Not where the index says. Its events come soon (an in-kernel mode knows when: sooner it is not looked for
        again); if they do not, the name is settled by what is there."""
        position = self._journal.position()
        if mark.tries < MAX_TRIES:
            self._again(oid, mark, 0.02 * 2**mark.tries, lane, mark.tries + 1, position)
            return
        with self._journal.lock:
            if self._journal.index.lookup(*place) != oid:
                if self._journal.index.place(oid) is not None:  # it moved meanwhile, and is still to be read
                    self._again(oid, mark, 0.05, lane)
                return
            try:
                seen = self._live.look(*place)
            except (Moved, Gone):  # its directory is on the way somewhere: it comes back, or it goes with it
                self._again(oid, mark, 0.5, lane, mark.tries, position)
                return
            except OSError as error:  # not readable is not gone: the replica keeps what it has
                self._gaps.open(oid, "unreadable", str(error))
                self._again(oid, mark, 10.0, lane, mark.tries)
                return
            self._follower.settle(*place, seen, mark.first)
            if self._journal.index.place(oid) is not None:  # it is back, or has other names: and is still to be read
                self._again(oid, mark, 0.05, lane)

    def _unreadable(self, oid: int, place: tuple[int, bytes], error: OSError) -> None:
        """A normal read was refused: from the disk's sectors where that is sound, else it is a reported gap."""
        path = self._live.path_of(oid) or b"?"
        reason = os.strerror(error.errno) if error.errno else str(error)
        try:
            found = self._sectors(oid, place)
            if found is not None and self._big.from_sectors(oid, found):
                log.warning("%r: %s; read from its disk sectors", path, reason)
                return
        except (OSError, LiveliftError) as second:
            reason = f"{reason}; from its sectors: {second}"
        self._gaps.open(oid, "unreadable", reason)
        self.problems[oid] = Problem(path, "unreadable", reason, "make the file readable, or exclude it from the job")
        self._dirty.add(oid, True, 0, delay=10.0)
