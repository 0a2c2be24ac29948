"""The USN journal's structures: its state and its records, versions 2 to 4 (winioctl.h, MS-FSCC 2.3.62). Pure, bounded.

A record names an object and its directory by file reference, so no path has to be looked up. Version 3 has 128-bit
references (ReFS; NTFS uses the lower half); version 4 tells ranges and has neither name nor directory.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from livelift.platform.windows.names import to_bytes

DATA_OVERWRITE: Final = 0x1
DATA_EXTEND: Final = 0x2
DATA_TRUNCATION: Final = 0x4
STREAM_OVERWRITE: Final = 0x10
STREAM_EXTEND: Final = 0x20
STREAM_TRUNCATION: Final = 0x40
FILE_CREATE: Final = 0x100
FILE_DELETE: Final = 0x200
EA_CHANGE: Final = 0x400
SECURITY_CHANGE: Final = 0x800
RENAME_OLD: Final = 0x1000
RENAME_NEW: Final = 0x2000
INDEXABLE_CHANGE: Final = 0x4000
BASIC_INFO_CHANGE: Final = 0x8000
HARD_LINK_CHANGE: Final = 0x10000
COMPRESSION_CHANGE: Final = 0x20000
ENCRYPTION_CHANGE: Final = 0x40000
OBJECT_ID_CHANGE: Final = 0x80000
REPARSE_CHANGE: Final = 0x100000
STREAM_CHANGE: Final = 0x200000
TRANSACTED: Final = 0x400000
INTEGRITY_CHANGE: Final = 0x800000
CLOSE: Final = 0x80000000
"""USN_REASON_*. The reasons of one object add up until it is closed."""

CONTENT: Final = (
    DATA_OVERWRITE | DATA_EXTEND | DATA_TRUNCATION | STREAM_OVERWRITE | STREAM_EXTEND | STREAM_TRUNCATION
    | COMPRESSION_CHANGE | STREAM_CHANGE | REPARSE_CHANGE
)  # fmt: skip
NAMES: Final = FILE_CREATE | FILE_DELETE | RENAME_OLD | RENAME_NEW | HARD_LINK_CHANGE


class JournalState(NamedTuple):
    """USN_JOURNAL_DATA. ``id`` changes when the journal is deleted and made anew; records before ``first`` are gone."""

    id: int
    first: int
    next: int
    lowest_valid: int
    maximum: int
    size: int
    delta: int


class UsnRecord(NamedTuple):
    """``reference``, ``parent``: file references. Version 4: ``parent`` as recorded, no ``name``, ``ranges`` instead
    (offset, length). ``time`` is a FILETIME, 0 in version 4."""

    usn: int
    reference: int
    parent: int
    reason: int
    name: bytes
    attributes: int
    time: int
    version: int
    ranges: tuple[tuple[int, int], ...] = ()


def parse_state(raw: bytes) -> JournalState:
    if len(raw) < 56:
        raise ValueError("USN_JOURNAL_DATA is too short")
    return JournalState(*struct.unpack_from("<QqqqqQQ", raw))


def parse_records(raw: bytes) -> tuple[int, list[UsnRecord]]:
    """The answer of FSCTL_READ_USN_JOURNAL: (USN to go on from, records). A version that is not known is skipped by
    its length, as the format demands. ValueError: damaged."""
    if len(raw) < 8:
        raise ValueError("the answer is shorter than a USN")
    (following,) = struct.unpack_from("<q", raw)
    found: list[UsnRecord] = []
    at = 8
    while at < len(raw):
        if at + 8 > len(raw):
            raise ValueError("a journal record reaches beyond the buffer")
        length, major = struct.unpack_from("<IH2x", raw, at)
        if length < 8 or length % 8 or at + length > len(raw):
            raise ValueError("a journal record has an impossible length")
        if major in (2, 3):
            found.append(_named(raw[at : at + length], major))
        elif major == 4:
            found.append(_ranged(raw[at : at + length]))
        at += length
    return following, found


def _named(raw: bytes, major: int) -> UsnRecord:
    width = 8 if major == 2 else 16
    if len(raw) < 8 + 2 * width + 36:
        raise ValueError("a journal record is too short")
    reference = int.from_bytes(raw[8 : 8 + width], "little")
    parent = int.from_bytes(raw[8 + width : 8 + 2 * width], "little")
    usn, time, reason, _, _, attributes, length, offset = struct.unpack_from("<qqIIIIHH", raw, 8 + 2 * width)
    if offset + length > len(raw):
        raise ValueError("a journal record's name reaches beyond it")
    return UsnRecord(usn, reference, parent, reason, to_bytes(raw[offset : offset + length]), attributes, time, major)


def _ranged(raw: bytes) -> UsnRecord:
    if len(raw) < 64:
        raise ValueError("a journal record is too short")
    reference = int.from_bytes(raw[8:24], "little")
    parent = int.from_bytes(raw[24:40], "little")
    usn, reason, _, _, count, size = struct.unpack_from("<qIIIHH", raw, 40)
    if size != 16 or 64 + count * size > len(raw):
        raise ValueError("a journal record's ranges reach beyond it")
    ranges = tuple(struct.iter_unpack("<qq", raw[64 : 64 + count * 16]))
    return UsnRecord(usn, reference, parent, reason, b"", 0, 0, 4, ranges)


def fits(reference: int) -> bool:
    """Whether a 128-bit reference is one of NTFS (the upper half is empty)."""
    return not reference >> 64
