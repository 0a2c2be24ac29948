"""The readers: units of small files, possibly of several directories, are read side by side and become BASE_FILE
records.

Several at a time because a cold disk answers each of them alone: 8 hide most of its latency. Once the walk turns out to
be long, reader processes take over (`livelift.walk.remote` says why). A file too big for one record is only announced
here (CREATE); its content is read by `livelift.source.changes` in the bulk lane.
"""

from __future__ import annotations

import itertools
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from livelift.model.entry import object_id, volume_of
from livelift.model.record import BaseFile, Kind, Make, Record
from livelift.source.journal import Journal
from livelift.source.live import DirectoryHandle
from livelift.source.racy import is_racy, stamp_clock
from livelift.walk.reading import AGAIN, FAILED, LARGE, Frame, read_files
from livelift.walk.remote import Lane, LaneLostError, Processes

log = logging.getLogger(__name__)

UNIT = 64
"""Files in one unit: a millisecond or two of work, so that threads rarely wait for each other."""
UNITS = 64
"""Units waiting: bounds memory (they hold names only) and keeps all readers busy."""
LONG = 32
"""Units after which the walk is called long: starting processes costs as much as reading about this many."""
PROCESSES = 4


class Job(Protocol):
    """A directory being reconciled, as far as its readers care."""

    oid: int
    handle: DirectoryHandle


class Item(NamedTuple):
    job: Job
    name: bytes
    oid: int


class Outcome(NamedTuple):
    """What came of a unit: records in the log; items to settle again by what is there now; items that gave an error."""

    done: list[Item]
    again: list[Item]
    failed: list[tuple[Item, OSError]]
    large: list[Item]


class Readers:
    """``finished`` is called (by a reader thread) after the records of an outcome are in the log."""

    def __init__(self, journal: Journal, finished: Callable[[Outcome], None], threads: int) -> None:
        self._journal = journal
        self._finished = finished
        self._threads = threads
        self._work: queue.Queue[list[Item]] = queue.Queue(UNITS)
        self._stop = threading.Event()
        self._starting = threading.Lock()
        self._processes: Processes | None = None
        self._units = itertools.count(1)
        self.files = 0
        self.bytes = 0
        self.duty = 1.0  # set by the governor: 0.5 is as long asleep as at work

    @property
    def cpu(self) -> float:
        """Seconds of CPU used by the reader processes."""
        return sum(lane.cpu for lane in self._processes.lanes) if self._processes is not None else 0.0

    def put(self, unit: list[Item]) -> None:
        """Blocks while ``UNITS`` units wait: the listing does not run ahead of the reading."""
        while not self._stop.is_set():
            try:
                self._work.put(unit, timeout=0.2)
                return
            except queue.Full:
                continue

    def start(self, guard: Callable[[Callable[[], None]], Callable[[], None]]) -> list[threading.Thread]:
        threads = [
            threading.Thread(target=guard(self._loop_of(i)), name=f"reader-{i}", daemon=True)
            for i in range(self._threads)
        ]
        for thread in threads:
            thread.start()
        return threads

    def stop(self) -> None:
        self._stop.set()
        with self._starting:
            if self._processes is not None:
                self._processes.close()

    def _loop_of(self, number: int) -> Callable[[], None]:
        return lambda: self._loop(number)

    def _loop(self, number: int) -> None:
        lane: Lane | None = None
        alone = sys.platform == "win32"  # where descriptors do not travel between processes
        while not self._stop.is_set():
            try:
                unit = self._work.get(timeout=0.2)
            except queue.Empty:
                continue
            if lane is None and not alone and next(self._units) > LONG:
                try:
                    lane = self._lane(number)
                except OSError as error:  # no process or no descriptor to be had
                    log.warning("no reader processes: %s; the agent reads by itself", error)
                    alone = True
            began = time.monotonic()
            try:
                self._unit(unit, lane)
            except LaneLostError as error:
                if self._stop.is_set():
                    return
                log.warning("%s; the agent reads in its place", error)
                lane, alone = None, True
            if self.duty < 1.0:
                self._stop.wait((time.monotonic() - began) * (1.0 - self.duty) / self.duty)

    def _lane(self, number: int) -> Lane | None:
        with self._starting:
            if self._processes is None and not self._stop.is_set():
                self._processes = Processes(min(PROCESSES, self._threads), self._threads)
            return self._processes.lanes[number] if self._processes is not None else None

    def _unit(self, unit: list[Item], lane: Lane | None) -> None:
        done = 0
        if lane is not None:
            began = stamp_clock()
            try:
                for frame in lane.read([(item.job.handle.fd, item.name) for item in unit]):
                    self._frame(unit[done : done + len(frame.files)], frame, began)
                    done += len(frame.files)
                return
            except LaneLostError:
                if not self._stop.is_set():
                    self._here(unit[done:])
                raise
        self._here(unit)

    def _here(self, unit: list[Item]) -> None:
        """In this thread."""
        done, began = 0, stamp_clock()
        frames: Iterator[Frame] = read_files([(item.job.handle.fd, item.name) for item in unit])
        for frame in frames:
            self._frame(unit[done : done + len(frame.files)], frame, began)
            done += len(frame.files)

    def _frame(self, items: list[Item], frame: Frame, began: int) -> None:
        """``began``: `stamp_clock` before any of the unit was read."""
        records: list[Record] = []
        out = Outcome([], [], [], [])
        payloads = iter(frame.payloads)
        size = 0
        for item, file in zip(items, frame.files, strict=True):
            payload = next(payloads) if file.length else b""
            attributes = file.attributes
            if file.status == FAILED:
                out.failed.append((item, OSError(*file.error)))
            elif (
                file.status == AGAIN
                or attributes is None
                or (file.inode and object_id(volume_of(item.oid), file.inode) != item.oid)  # replaced since the listing
            ):
                out.again.append(item)
            elif file.status == LARGE:
                records.append(Record(Kind.CREATE, Make(item.oid, item.job.oid, item.name, attributes)))
                out.large.append(item)
                out.done.append(item)
            else:
                body = BaseFile(item.oid, item.job.oid, item.name, attributes, file.extents, file.allocated)
                records.append(Record(Kind.BASE_FILE, body, payload))
                size += file.length
                out.done.append(item)
        self._flush(records, out, size, began)

    def _flush(self, records: list[Record], out: Outcome, size: int, began: int) -> None:
        while size and not self._stop.is_set() and not self._journal.wait_room(size, 0.5):
            continue
        if records:
            with self._journal.lock:
                self._drop_orphans(records, out)
                if records:
                    self._journal.emit(records)
                for record in records:
                    body = record.body
                    if isinstance(body, BaseFile) and is_racy(body.attributes.ctime, began):
                        self._journal.index.set_racy(body.oid)
            self.files += len(records)
            self.bytes += size
        self._finished(out)

    def _drop_orphans(self, records: list[Record], out: Outcome) -> None:
        """The merge lock is held. A directory may have left the log since it was listed: nothing can be put into it."""
        index = self._journal.index
        gone = {job for job in {item.job.oid for item in out.done} if not index.is_dir(job)}
        if gone:
            lost = [item for item in out.done if item.job.oid in gone]
            out.again.extend(lost)
            out.done[:] = [item for item in out.done if item.job.oid not in gone]
            out.large[:] = [item for item in out.large if item.job.oid not in gone]
            records[:] = [r for r in records if r.body.parent not in gone]  # type: ignore[union-attr]


__all__ = ["Item", "Outcome", "Readers"]
