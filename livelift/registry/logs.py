"""Transaction logs: what a hive that was not closed cleanly still lacks, and how much of it may be believed.

New format (8.1 and later): a sector with a base block of type 6, then entries: "HvLE" | size u32 | flags u32 |
sequence u32 | size of the bins u32 | number of pages u32 | hash of all from byte 40 u64 | hash of the first 32 bytes
u64 | (offset u32, size u32) per page | the pages. The base block carries the number of the first entry, each further
one counts up. Entries older than the hive's second sequence number are in it already. Reading stops where an entry is
torn, as the kernel does it: that change was never acknowledged. The log with the lower numbers goes first; where the
other does not continue it, something is missing and the hive stays dirty.

Old format (7 and earlier): a base block of type 1, "DIRT" and one bit per 512 bytes of the bins, then those 512 bytes
each, all aligned to sectors. It belongs to the hive whose time stamp it has.

Source: regf specification of M. Suhanov, "Format of transaction log files", "Dirty state of a hive".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from livelift.errors import HiveError
from livelift.registry.base_block import BLOCK, MAX_BINS, NEW_LOG, OLD_LOGS, PRIMARY, BaseBlock, unpack
from livelift.registry.marvin import marvin

SECTOR: Final = 512
_ENTRY = struct.Struct("<4sIIIIIQQ")
_TIMESTAMP = struct.Struct("<Q")


class Entry(NamedTuple):
    """``pages``: (offset in the bins, bytes)."""

    sequence: int
    size: int
    pages: list[tuple[int, memoryview]]


@dataclass(slots=True)
class Recovery:
    """``bins``: the bytes behind the base block, brought up to date. ``applied``: entries (an old log counts as one).
    ``complete``: nothing is known to be missing. ``notes``: what was found in the logs, in words."""

    block: BaseBlock
    bins: bytearray
    applied: int = 0
    complete: bool = False
    notes: list[str] = field(default_factory=list)


def recover(data: memoryview, logs: Sequence[bytes], max_size: int = MAX_BINS) -> Recovery:
    """What the kernel would make of a dirty hive and its logs. HiveError if the base block is damaged and no log has
    a copy of it."""
    block = unpack(data)
    recovery = Recovery(block, bytearray(data[BLOCK:]))
    usable = list(_usable(logs, recovery.notes))
    new = sorted((log for log in usable if log[0].type == NEW_LOG), key=lambda log: log[0].sequence1)
    old = [log for log in usable if log[0].type in OLD_LOGS and _belongs(log[0], recovery)]
    if not block.checked:
        if not usable or (not new and not old):
            raise HiveError("the checksum of its base block is wrong, and no log has a copy of the block")
        copy = (new or old)[0][0]
        recovery.block = copy._replace(type=PRIMARY)
        recovery.notes.append("the base block was damaged and was taken from the log")
    if new:
        _apply_new(recovery, new, max_size)
    elif old:
        _apply_old(recovery, *old[0], max_size)
    elif usable:
        recovery.notes.append("the logs belong to another state of the hive: their time stamps differ from its own")
    return recovery


def _usable(logs: Sequence[bytes], notes: list[str]) -> Iterator[tuple[BaseBlock, memoryview]]:
    """Logs with a sound base block. An empty one is normal: Windows makes .LOG and does not use it."""
    for number, log in enumerate(logs, 1):
        if not any(memoryview(log)[:SECTOR]):
            continue
        try:
            block = unpack(log)
        except HiveError as error:
            notes.append(f"log {number} of {len(logs)} is not one: {error.args[0]}")
            continue
        if block.type != NEW_LOG and block.type not in OLD_LOGS:
            notes.append(f"log {number} of {len(logs)} is no log (type {block.type})")
        elif not block.clean:
            notes.append(f"log {number} of {len(logs)} was being written when the machine stopped; it is not used")
        else:
            yield block, memoryview(log)


def _apply_new(recovery: Recovery, logs: list[tuple[BaseBlock, memoryview]], max_size: int) -> None:
    expected = 0  # no number yet: the first entry that the hive does not have may be any later one
    recovery.complete = True
    for head, log in logs:
        for entry in entries(head, log, recovery.notes):
            if entry.sequence < (expected or recovery.block.sequence2):
                continue
            if expected and entry.sequence != expected:
                recovery.notes.append(f"log entries {expected} to {entry.sequence - 1} are missing")
                recovery.complete = False
                return
            # New bins are dirty as a whole, so an entry cannot add more than it carries.
            room = len(recovery.bins) + sum(len(page) for _, page in entry.pages)
            if entry.size > min(room, max_size):
                recovery.notes.append(f"log entry {entry.sequence} wants {entry.size} bytes of bins; it is not used")
                recovery.complete = False
                return
            _grow(recovery.bins, entry.size)
            for offset, page in entry.pages:
                recovery.bins[offset : offset + len(page)] = page
            recovery.block = recovery.block._replace(
                sequence1=entry.sequence, sequence2=entry.sequence, size=entry.size
            )
            recovery.applied += 1
            expected = entry.sequence + 1
    recovery.complete = recovery.applied > 0


def entries(head: BaseBlock, log: memoryview, notes: list[str]) -> Iterator[Entry]:
    """The entries of one log of the new format, up to the first that is torn, damaged or out of order."""
    at, expected = SECTOR, head.sequence1
    while at + _ENTRY.size <= len(log):
        magic, size, _, sequence, bins, count, hash1, hash2 = _ENTRY.unpack_from(log, at)
        if magic != b"HvLE" or sequence != expected:
            return  # what an earlier round left behind
        start = at + _ENTRY.size
        body = log[start : at + size]
        if size % SECTOR or size < _ENTRY.size + 8 * count or at + size > len(log):
            notes.append(f"log entry {sequence} is cut off; what it changed was never acknowledged")
            return
        if marvin(log[at : at + 32]) != hash2 or marvin(body) != hash1:
            notes.append(f"log entry {sequence} fails its checksum; what it changed was never acknowledged")
            return
        pages = []
        where = 8 * count
        for index in range(count):
            offset, length = struct.unpack_from("<II", body, 8 * index)
            page = body[where : where + length]
            if len(page) != length or offset + length > bins:
                notes.append(f"log entry {sequence} has a page that does not fit")
                return
            pages.append((offset, page))
            where += length
        if bins % BLOCK:
            notes.append(f"log entry {sequence} tells of {bins} bytes of bins, which cannot be")
            return
        yield Entry(sequence, bins, pages)
        at += size
        expected = sequence + 1


def _belongs(log: BaseBlock, recovery: Recovery) -> bool:
    """An old log is of the hive that has its time stamp: in the base block, or in the first bin if that is damaged."""
    if recovery.block.checked:
        return log.timestamp == recovery.block.timestamp
    return len(recovery.bins) >= 32 and log.timestamp == _TIMESTAMP.unpack_from(recovery.bins, 20)[0]


def _apply_old(recovery: Recovery, head: BaseBlock, log: memoryview, max_size: int) -> None:
    sector = SECTOR * head.clustering
    size = head.size
    if not size or size % BLOCK or size > max_size or bytes(log[sector : sector + 4]) != b"DIRT":
        recovery.notes.append("the log has no vector of dirty pages")
        return
    vector = bytes(log[sector + 4 : sector + 4 + size // BLOCK])
    pages = -(-(sector + 4 + size // BLOCK) // sector) * sector
    carried = SECTOR * int.from_bytes(vector, "little").bit_count()
    if len(vector) < size // BLOCK or pages + carried > len(log):
        recovery.notes.append("the log is cut off")
        return
    if size > len(recovery.bins) + carried:
        recovery.notes.append(f"the log wants {size} bytes of bins and does not have them")
        return
    _grow(recovery.bins, size)
    numbers = (8 * at + bit for at, byte in enumerate(vector) if byte for bit in range(8) if byte >> bit & 1)
    for index, number in enumerate(numbers):
        at = pages + SECTOR * index
        recovery.bins[SECTOR * number : SECTOR * (number + 1)] = log[at : at + SECTOR]
    sequence = head.sequence1
    recovery.block = recovery.block._replace(sequence1=sequence, sequence2=sequence, size=size)
    recovery.applied = 1
    recovery.complete = True


def _grow(bins: bytearray, size: int) -> None:
    if len(bins) < size:
        bins.extend(bytes(size - len(bins)))
