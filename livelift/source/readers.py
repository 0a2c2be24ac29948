"""The readers: units of small files, possibly of several directories, are read by several threads and become
BASE_FILE records.

Several threads because a cold disk answers each of them alone: 8 hide most of its latency. A file too big for one
record is only announced here (CREATE); its content is read by `livelift.source.changes` in the bulk lane.
"""

from __future__ import annotations

import errno
import queue
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from livelift.merge.blocks import SMALL
from livelift.model.entry import object_id, volume_of
from livelift.model.record import BaseFile, Kind, Make, Record
from livelift.source.bigfiles import RACY
from livelift.source.journal import Journal
from livelift.source.live import DirectoryHandle
from livelift.walk.attributes import attributes_at
from livelift.walk.content import read_small

UNIT = 64
"""Files in one unit: 64 x 15 us is a millisecond of work, so threads rarely wait for each other."""
UNITS = 64
"""Units waiting: bounds memory (they hold names only) and keeps all readers busy."""
FLUSH = 1 << 20
"""Bytes of content after which a reader hands its records over."""


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
        self.files = 0
        self.bytes = 0
        self.duty = 1.0  # set by the governor: 0.5 is as long asleep as at work

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
            threading.Thread(target=guard(self._loop), name=f"reader-{i}", daemon=True) for i in range(self._threads)
        ]
        for thread in threads:
            thread.start()
        return threads

    def stop(self) -> None:
        self._stop.set()

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                unit = self._work.get(timeout=0.2)
            except queue.Empty:
                continue
            began = time.monotonic()
            self._unit(unit)
            if self.duty < 1.0:
                self._stop.wait((time.monotonic() - began) * (1.0 - self.duty) / self.duty)

    def _unit(self, unit: list[Item]) -> None:
        records: list[Record] = []
        size = 0
        out = Outcome([], [], [], [])
        for item in unit:
            try:
                small = read_small(item.job.handle.fd, item.name, SMALL)
                if small is None:
                    attributes = attributes_at(item.job.handle.fd, item.name)
                    records.append(Record(Kind.CREATE, Make(item.oid, item.job.oid, item.name, attributes)))
                    out.large.append(item)
                elif object_id(volume_of(item.oid), small.inode) != item.oid:
                    out.again.append(item)  # replaced since the listing
                    continue
                else:
                    body = BaseFile(item.oid, item.job.oid, item.name, small.attributes, small.extents, small.allocated)
                    records.append(Record(Kind.BASE_FILE, body, small.payload))
                    size += len(small.payload)
                out.done.append(item)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE):
                    out.again.append(item)
                else:
                    out.failed.append((item, error))
            if size >= FLUSH:
                self._flush(records, out, size)
                records, size, out = [], 0, Outcome([], [], [], [])
        self._flush(records, out, size)

    def _flush(self, records: list[Record], out: Outcome, size: int) -> None:
        while size and not self._stop.is_set() and not self._journal.spool.wait_room(size, 0.5):
            continue
        if records:
            with self._journal.lock:
                self._drop_orphans(records, out)
                if records:
                    self._journal.emit(records)
                now = time.time_ns()
                for record in records:
                    body = record.body
                    if isinstance(body, BaseFile) and now - body.attributes.ctime < RACY:
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
