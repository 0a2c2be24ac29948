"""The sequencer: gives every record its LSN, keeps it on disk until the target has it durably, hands it to the sender.

Any number of threads may call anything. ``append`` never waits for a disk flush, the network or room: what has to give
way is dropped and reported (`on_elided`), because behind ``append`` stands the capture and behind that the workload.
"""

from __future__ import annotations

import errno
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence

from livelift.errors import StateError, StoreError, WireError
from livelift.log.batch import Batch, batch_after, batch_elided, make_batch, make_stored
from livelift.log.segment import REMEDY
from livelift.model.record import RELOADABLE, Gap, Kind, Record
from livelift.platform.system import os
from livelift.ports import Clock
from livelift.spool.chain import Chain, discard
from livelift.spool.files import SegmentFile, Spot, read_batch, sync_directory
from livelift.spool.pressure import Heat, SpoolFullError
from livelift.spool.repair import iterate, quarantine
from livelift.spool.state import StateFile, take_lock
from livelift.spool.tail import Tail, filled

__all__ = ["Spool", "SpoolFullError", "iterate", "quarantine"]

_FULL = (errno.ENOSPC, errno.EDQUOT)
_RESERVE = 10
"""One in so many bytes of the cap is kept for records without content."""
_MARK_EVERY = 64 * 1024


class Spool:
    """The log of ``job`` in ``directory`` (made if missing, mode 0700), of at most ``cap`` bytes, and ``memory``.

    ``recovered_lsn``: the last LSN found when it was opened. A target that has applied more than that got records which
    a power failure took from this side: call ``collapse(at_least=applied)`` before anything else. ``torn_bytes``: what
    an interrupted write left behind and was cut off. LockedError: another process has it. CorruptError: `quarantine`.
    """

    def __init__(
        self,
        directory: bytes,
        job: str,
        cap: int = 1 << 30,
        segment_size: int = 16 << 20,
        memory: int = 64 << 20,
        clock: Clock | None = None,
        on_elided: Callable[[list[int]], None] | None = None,
    ) -> None:
        self._directory = directory
        self._job = job
        self._cap = cap
        self._soft = cap - cap // _RESERVE
        self._now = clock.now if clock is not None else time.time_ns
        self._on_elided = on_elided
        self._lock = threading.Condition()
        self._sync_lock = threading.Lock()
        self._trim_lock = threading.Lock()
        self._tail = Tail(memory)
        self._heat = Heat()
        self._chain = Chain(directory, job, min(segment_size, max(cap // 8, 1)))
        self._cursor: tuple[SegmentFile, Spot] | None = None
        self._broken = ""
        self._closing = self._closed = False
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._lock_fd = take_lock(directory)
        try:
            self._state = StateFile(directory)
        except BaseException:
            os.close(self._lock_fd)
            raise
        self._acked = self._state.acked
        self._folded = 1 << 63
        try:
            self._chain.recover(self._acked, self._state.floor)
            self._logical = 0  # bytes ever appended, payloads counted even where the disk has them elided
            self._marks = [(0, 0)]  # (LSN, self._logical behind it), every _MARK_EVERY bytes, ascending
            for segment in self._chain.segments:
                self._logical += segment.size
                self._marks.append((segment.last_lsn, self._logical))
            if self._state.floor and not self._chain.segments:  # quarantined, or a collapse was interrupted
                self._give_up(self._chain.last_lsn + 1, "spool", "the log was given up before this start")
        except BaseException:
            self._close_files()
            raise
        self._synced = self.recovered_lsn = self._chain.last_lsn
        self.torn_bytes = self._chain.torn_bytes

    # ---- what the engine asks

    @property
    def last_lsn(self) -> int:
        return self._chain.last_lsn

    @property
    def synced_lsn(self) -> int:
        return self._synced

    @property
    def acked_lsn(self) -> int:
        return self._acked

    @property
    def oldest_lsn(self) -> int:
        """The first LSN that is still here; last_lsn + 1 when none is."""
        with self._lock:
            segments = self._chain.segments
            return segments[0].header.first_lsn if segments else self._chain.last_lsn + 1

    @property
    def disk_bytes(self) -> int:
        return self._chain.disk

    @property
    def memory_bytes(self) -> int:
        return self._tail.bytes

    def backlog_bytes(self, after_lsn: int) -> int:
        """Bytes of heads and payloads behind ``after_lsn``: too high by 64 KiB or a batch at most, 0 behind the last.

        After a restart, what was found on disk counts in whole segments.
        """
        with self._lock:
            if after_lsn >= self._chain.last_lsn:
                return 0
            place = bisect_left(self._marks, (after_lsn + 1, 0)) - 1
            return self._logical - self._marks[max(place, 0)][1]

    # ---- the producer's side

    def append(self, records: Sequence[Record]) -> tuple[int, int]:
        """Sequence these records (1 or more) and keep them: (first LSN, last LSN), set in the records as well.

        Payload buffers must not change until the batch was sent. When the log is full, content of WRITEs is dropped and
        its objects are told to ``on_elided`` (from this thread, no lock held). SpoolFullError: not even the heads fit;
        nothing was appended, call `collapse`. StoreError: the disk failed; the spool is unusable.
        """
        if not records:
            raise ValueError("append of no records")
        now = 0
        with self._lock:
            self._usable()
            first = self._chain.last_lsn + 1
            reloadable = 0
            for lsn, record in enumerate(records, first):
                record.lsn = lsn
                if not record.time:
                    record.time = now = now or self._now()
                if record.payload and record.kind in RELOADABLE:
                    reloadable += len(record.payload)
            try:
                batch, lost = self._store(records, reloadable)
            except BaseException:
                for record in records:
                    record.lsn = 0
                raise
            self._logical += batch.size
            if self._logical - self._marks[-1][1] >= _MARK_EVERY:
                self._marks.append((batch.last_lsn, self._logical))
            self._tail.put(batch, reloadable)
            self._lock.notify_all()
        if lost and self._on_elided:
            self._on_elided(lost)
        return batch.first_lsn, batch.last_lsn

    def wait_room(self, nbytes: int, timeout: float) -> bool:
        """Wait until base content of ``nbytes`` may be appended; False after ``timeout`` seconds or when closed.

        To be called before a producer takes its own locks. Advice, not a reservation: n producers may overshoot the
        memory by n chunks. Something larger than the whole memory goes alone.
        """
        with self._lock:
            self._lock.wait_for(lambda: self._closed or self._has_room(nbytes), timeout)
            return not self._closed and self._has_room(nbytes)

    def sync(self) -> int:
        """Flush all that was appended before the call (fdatasync(2)): the LSN up to which everything is durable."""
        with self._sync_lock:
            with self._lock:
                self._usable()
                files, names = self._chain.unsynced()
                last = self._chain.last_lsn
            try:
                for fd in files:
                    os.fdatasync(fd)
                if names:
                    sync_directory(self._directory)
            except OSError as error:
                # The kernel reports a failed write-back once and forgets the pages (fsync(2)): never try again.
                raise self._broke("flushing the log", error) from error
            finally:
                for fd in files:
                    os.close(fd)
            with self._lock:
                self._synced = max(self._synced, last)
                return self._synced

    def collapse(self, at_least: int = 0, reason: str = "spool", detail: str = "") -> int:
        """Give up the whole log: everything not acknowledged goes, one GAP record (oid 0) stays. Its LSN, durable.

        LSNs go on (behind ``at_least`` too, what the target has): the numbers between are never used. A sender that
        asks for one of them gets the GAP. StoreError: not even that could be written.
        """
        with self._trim_lock, self._sync_lock, self._lock:
            self._usable()
            lsn = max(self._chain.last_lsn, at_least) + 1
            self._give_up(lsn, reason, detail)
            self._lock.notify_all()
            return lsn

    # ---- the sender's side

    def next(self, after_lsn: int, timeout: float) -> Batch | None:
        """What follows ``after_lsn``: a batch from there on, or None after ``timeout`` seconds (or when closed).

        From memory with all payloads; from disk with base content elided and ``blobs`` joined to one. Its first LSN is
        ``after_lsn`` + 1, except behind a `collapse`: then it is the GAP's. StateError: asked for what was acknowledged
        and deleted. CorruptError: the disk gave something else than was written.
        """
        with self._lock:
            self._lock.wait_for(lambda: self._closed or self._chain.last_lsn > after_lsn, timeout)
            if self._closed or self._chain.last_lsn <= after_lsn:
                return None
            wanted = after_lsn + 1
            oldest = self._chain.segments[0].header
            if wanted < oldest.covers:
                raise StateError(
                    f"LSN {wanted} was acknowledged and deleted, the log begins at {oldest.first_lsn}", remedy=REMEDY
                )
            wanted = max(wanted, oldest.first_lsn)
            held = self._tail.find(wanted)
            if held is not None and held.whole:
                batch = held.batch
                return batch if batch.first_lsn == wanted else batch_after(batch, wanted - 1)
            blobs = held.blobs if held is not None else None
            segment, spot = self._chain.locate(wanted)
            cursor = self._cursor  # where the last read ended: a sender that catches up reads on there
            if cursor and cursor[0] is segment and spot.lsn <= cursor[1].lsn <= wanted:
                spot = cursor[1]
            fd = segment.reader()
        try:
            batch, behind = read_batch(fd, segment.name, spot, wanted)
        finally:
            os.close(fd)
        self._cursor = (segment, behind)
        if held is not None and blobs is not None:
            batch = filled(held.batch, blobs, batch)
        return batch if batch.first_lsn == wanted else batch_after(batch, wanted - 1)

    def sent(self, lsn: int) -> None:
        """Everything up to ``lsn`` is on its way: it leaves the memory. After a broken link the disk has it, elided."""
        with self._lock:
            self._tail.forget(lsn)
            self._lock.notify_all()

    def acked(self, lsn: int) -> None:
        """Everything up to ``lsn`` is durable on the target: whole segments below it go, if the index has them too
        (`folded`). Lower than before: ignored."""
        with self._lock:
            if lsn > self._chain.last_lsn:
                raise WireError(f"the target acknowledges LSN {lsn}, the last one is {self._chain.last_lsn}")
            if lsn <= self._acked or self._closed:
                return
            self._acked = lsn
            self._tail.forget(lsn)
            place = bisect_left(self._marks, (lsn + 1, 0)) - 1
            if place > 0:
                del self._marks[:place]
            self._lock.notify_all()
        self._trim()

    def folded(self, lsn: int) -> None:
        """An index of the log is durable up to ``lsn``: it is folded on from there after a crash, so what comes behind
        stays from the first call on."""
        with self._lock:
            self._folded = lsn
        self._trim()

    def _trim(self) -> None:
        with self._trim_lock:
            with self._lock:
                doomed = [] if self._closed else self._chain.below(min(self._acked, self._folded))
            if not doomed:
                return
            self._save_acked(self._acked)  # first what says that they may be missing, then the newest, then they go
            self.sync()
            with self._lock:
                doomed = self._chain.take(doomed)
                if self._chain.disk < self._cap // 2:
                    self._heat.relax()
                self._lock.notify_all()
            for segment in doomed:
                discard(segment)

    def close(self) -> None:
        """Flush, note the acknowledged LSN, let the next process in. Waiting threads return. Idempotent."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        try:
            if not self._broken:
                self.sync()
                with self._trim_lock:
                    self._save_acked(self._acked)
        finally:
            with self._trim_lock, self._sync_lock, self._lock:
                self._closed = True
                self._lock.notify_all()
                self._close_files()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _save_acked(self, lsn: int) -> None:
        try:
            self._state.save(lsn, self._state.floor)
        except OSError as error:
            raise self._broke("noting the acknowledged LSN", error) from error

    # ---- inside, the lock is held

    def _store(self, records: Sequence[Record], reloadable: int) -> tuple[Batch, list[int]]:
        """Encode and write, giving up content as room demands: (the sender's batch, objects that lost content)."""
        if reloadable:
            batch, stored = make_stored(records)
        else:
            batch = stored = make_batch(records)
        lost: list[int] = []
        excess = self._chain.disk + self._chain.cost(stored) - self._soft
        if excess > 0 and stored.payload_size:
            records, lost = self._heat.drop(records, excess)
            if lost:
                batch = make_batch(records)
                stored = batch_elided(batch)
        if self._chain.disk + self._chain.cost(stored) > self._cap:
            raise SpoolFullError(f"{self._chain.disk} of {self._cap} bytes used")
        try:
            self._write(stored)
        except SpoolFullError:
            records, more = self._heat.drop(records, stored.payload_size)
            if not more:
                raise
            lost += [oid for oid in more if oid not in lost]
            batch = make_batch(records)
            self._write(batch_elided(batch))
        self._heat.count(records)
        return batch, lost

    def _write(self, stored: Batch) -> None:
        try:
            self._chain.write(stored)
        except OSError as error:
            if error.errno in _FULL:
                raise SpoolFullError(f"no space left on its file system, {self._chain.disk} bytes used") from error
            raise self._broke("writing the log", error) from error

    def _give_up(self, lsn: int, reason: str, detail: str) -> None:
        record = Record(Kind.GAP, Gap(0, reason, detail), time=self._now(), lsn=lsn)
        batch = make_batch([record])
        self._tail = Tail(self._tail.limit)
        self._heat.relax()
        self._cursor = None
        try:
            self._state.save(self._acked, lsn - 1)
            self._chain.restart(self._acked + 1, batch)
        except OSError as error:
            raise self._broke("beginning a new log", error) from error
        self._tail.put(batch, 0)
        self._synced = lsn
        self._marks = [(lsn - 1, self._logical)]
        self._logical += batch.size

    def _has_room(self, nbytes: int) -> bool:
        tail = self._tail
        memory = not tail.reloadable or tail.reloadable + nbytes <= tail.limit
        return memory and (self._chain.disk < self._soft or self._acked >= self._chain.last_lsn)

    def _usable(self) -> None:
        if self._closed:
            raise StateError("the log is closed")
        if self._broken:
            raise StoreError(self._broken)

    def _broke(self, doing: str, error: OSError) -> StoreError:
        """After this nothing is accepted any more: what is on the disk is no longer known."""
        self._broken = f"{doing} in {os.fsdecode(self._directory)} failed: {error}"
        return StoreError(self._broken, remedy="see to the disk, then start the source agent again")

    def _close_files(self) -> None:
        self._chain.close()
        self._state.close()
        os.close(self._lock_fd)
