"""Looking at a log from outside, and setting a damaged one aside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from livelift.errors import CorruptError
from livelift.log.batch import records_of
from livelift.log.codec import HEADER_SIZE as RECORD_SIZE
from livelift.log.segment import HEADER_SIZE, frames_of, unpack_header
from livelift.model.record import Record
from livelift.platform.system import os
from livelift.spool.files import read_all, segment_names, sync_directory
from livelift.spool.state import STATE, StateFile, take_lock


def iterate(directory: bytes, from_lsn: int = 0) -> Iterator[Record]:
    """Every record on disk from ``from_lsn`` on, in order, as it is there (base content elided).

    Works without the lock beside a running agent: it shows the log as it is when called; what is acknowledged and
    deleted meanwhile is skipped. Payloads are memoryviews. CorruptError: the chain is broken within a segment.
    """
    names = segment_names(directory)
    start = max((place for place, item in enumerate(names) if item[0] <= from_lsn), default=0)
    for place in range(start, len(names)):
        path = names[place][1]
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        try:
            for record in _records(fd, os.fsdecode(os.path.basename(path)), place == len(names) - 1):
                if record.lsn >= from_lsn:
                    yield record
        finally:
            os.close(fd)


def _records(fd: int, name: str, newest: bool) -> Iterator[Record]:
    size = os.fstat(fd).st_size
    raw = os.pread(fd, HEADER_SIZE, 0)
    if newest and len(raw) < HEADER_SIZE:
        return
    header = unpack_header(raw, name)
    for _, heads, blob in frames_of(lambda at, n: read_all(fd, at, n), size, name, header, raw, newest):
        yield from records_of(heads, blob)


def quarantine(directory: bytes) -> bytes:
    """Move all segments of a log that cannot be opened into a directory beside them; the path of that directory.

    Nobody may have it open (LockedError). The log can be opened again then: it begins with a GAP for everything, at an
    LSN that the damaged log cannot have reached (its newest segment holds one record per 36 bytes at most).
    """
    lock = take_lock(directory)
    try:
        names = segment_names(directory)
        acked = floor = 0
        with suppress(CorruptError):
            state = StateFile(directory)
            acked, floor = state.acked, state.floor
            state.close()
        if names:
            first, path = names[-1]
            floor = max(floor, acked, first + os.path.getsize(path) // RECORD_SIZE)
        aside = os.path.join(directory, b"damaged-%020d" % floor)
        os.makedirs(aside, mode=0o700, exist_ok=True)
        os.rename(os.path.join(directory, STATE), os.path.join(aside, STATE))
        state = StateFile(directory)
        try:
            # Durable before a segment moves: interrupted from here on, opening the log discards what is still there.
            state.save(acked, max(floor, 1))
        finally:
            state.close()
        for _, path in names:
            os.rename(path, os.path.join(aside, os.path.basename(path)))
        sync_directory(aside)
        sync_directory(directory)
        return aside
    finally:
        os.close(lock)
