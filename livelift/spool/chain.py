"""The segments of one log as a chain: checked when opened, appended to at one end, deleted at the other.

Not thread-safe: the spool's lock guards it.
"""

from __future__ import annotations

from livelift.errors import CorruptError
from livelift.log.batch import Batch
from livelift.log.segment import FRAME_SIZE, HEADER_SIZE, NO_PREVIOUS, REMEDY, SegmentHeader
from livelift.platform.system import os
from livelift.spool.files import SegmentFile, Spot, segment_names, sync_directory


class Chain:
    """``last_lsn``: of the newest record. ``disk``: bytes of all segments. ``torn_bytes``: cut off by `recover`."""

    def __init__(self, directory: bytes, job: str, segment_size: int) -> None:
        self._directory = directory
        self._job = job
        self._segment_size = segment_size
        self._names_dirty = False
        self.segments: list[SegmentFile] = []
        self.last_lsn = 0
        self.disk = 0
        self.torn_bytes = 0

    def recover(self, acked: int, floor: int) -> None:
        """Check every byte of the log, cut off a torn tail, delete what was given up (`restart`): LSNs up to ``floor``.

        CorruptError: damaged, or incomplete for a log that the target has up to ``acked``. After an error call `close`.
        """
        names = segment_names(self._directory)
        for _, path in (item for item in names if item[0] <= floor):
            os.unlink(path)
        names = [item for item in names if item[0] > floor]
        for place, (first, path) in enumerate(names):
            newest = place == len(names) - 1
            if newest and os.path.getsize(path) < HEADER_SIZE and (self.segments or first == 1):
                self.torn_bytes += os.path.getsize(path)  # its making was interrupted: there is no record in it
                os.unlink(path)
                sync_directory(self._directory)
                break
            segment, torn = SegmentFile.recover(path, newest)
            self.torn_bytes += torn
            self._join(segment, first)
        self.last_lsn = self.segments[-1].last_lsn if self.segments else floor
        self.disk = sum(segment.size for segment in self.segments)
        covers = self.segments[0].header.covers if self.segments else 1
        if covers > acked + 1:
            raise CorruptError(f"segments with the LSNs {acked + 1} to {covers - 1} are missing", remedy=REMEDY)
        if self.last_lsn < acked:
            raise CorruptError(f"the log ends at LSN {self.last_lsn}, the target has up to {acked}", remedy=REMEDY)

    def cost(self, batch: Batch) -> int:
        """Bytes of disk that a batch will take, at most."""
        return batch.size + FRAME_SIZE + HEADER_SIZE

    def write(self, batch: Batch) -> None:
        """Append a batch. OSError: nothing was appended."""
        newest = self.segments[-1] if self.segments else None
        if newest is None or newest.size >= self._segment_size:
            newest = self._begin(batch.first_lsn, batch.first_lsn, newest.seal() if newest else NO_PREVIOUS)
        before = newest.size
        newest.append(batch)
        self.disk += newest.size - before
        self.last_lsn = batch.last_lsn

    def restart(self, covers: int, batch: Batch) -> None:
        """Delete everything and begin a new chain with this batch, durably. The floor must have been noted before."""
        for segment in self.take(self.segments):
            discard(segment)
        sync_directory(self._directory)
        newest = self._begin(batch.first_lsn, covers, NO_PREVIOUS)
        newest.append(batch)
        self.disk = newest.size
        self.last_lsn = batch.last_lsn
        os.fdatasync(newest.fd)
        sync_directory(self._directory)
        newest.dirty = self._names_dirty = False

    def below(self, lsn: int) -> list[SegmentFile]:
        """Segments that end at or before ``lsn``; never the newest, which carries the LSN on over a restart."""
        return [segment for segment in self.segments[:-1] if segment.last_lsn <= lsn]

    def take(self, segments: list[SegmentFile]) -> list[SegmentFile]:
        """Remove these from the chain (not yet from the disk): those that were still in it."""
        taken = [segment for segment in self.segments if segment in segments]
        self.segments = [segment for segment in self.segments if segment not in taken]
        self.disk -= sum(segment.size for segment in taken)
        return taken

    def locate(self, lsn: int) -> tuple[SegmentFile, Spot]:
        """The segment that holds ``lsn``, and where in it to start looking. The LSN must be in the chain."""
        segment = next(segment for segment in reversed(self.segments) if segment.header.first_lsn <= lsn)
        return segment, segment.spot(lsn)

    def unsynced(self) -> tuple[list[int], bool]:
        """(descriptors of segments to flush and close, whether to flush the directory); counted as flushed."""
        files = [segment.release() for segment in self.segments[:-1] if segment.fd >= 0]
        files += [os.dup(segment.fd) for segment in self.segments[-1:] if segment.dirty]
        for segment in self.segments:
            segment.dirty = False
        names, self._names_dirty = self._names_dirty, False
        return files, names

    def close(self) -> None:
        for segment in self.segments:
            segment.close()
        self.segments = []

    def _begin(self, first: int, covers: int, previous: bytes) -> SegmentFile:
        segment = SegmentFile.create(self._directory, SegmentHeader(self._job, first, covers, previous))
        self.segments.append(segment)
        self._names_dirty = True
        self.disk += segment.size
        return segment

    def _join(self, segment: SegmentFile, first: int) -> None:
        """Accept a segment behind those before, or raise CorruptError (it is in ``segments`` then, to be closed)."""
        header = segment.header
        before = self.segments[-1] if self.segments else None
        self.segments.append(segment)
        if before is not None:
            before.close()
        if header.first_lsn != first or header.job != self._job:
            raise CorruptError(
                f"segment {segment.name} is of job {header.job!r}, LSN {header.first_lsn}, not of {self._job!r}",
                remedy=REMEDY,
            )
        if before is not None and (header.previous != before.seal() or first != before.last_lsn + 1):
            raise CorruptError(
                f"segment {segment.name} does not follow {before.name}, first lost LSN {before.last_lsn + 1}",
                remedy=REMEDY,
            )


def discard(segment: SegmentFile) -> None:
    """Delete a segment's file and close it."""
    os.unlink(segment.path)
    segment.close()
