"""Readers of what NtQueryInformationFile, NtQueryDirectoryFile and FSCTLs return (MS-FSCC, wdm.h). Pure and bounded.

Every function takes the bytes that the system filled in. ValueError: they do not have the documented form; nothing is
read outside of them, and a list whose links do not go forward ends with that error.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from livelift.platform.windows.names import to_bytes

READONLY: Final = 0x1
HIDDEN: Final = 0x2
SYSTEM: Final = 0x4
DIRECTORY: Final = 0x10
ARCHIVE: Final = 0x20
SPARSE: Final = 0x200
REPARSE: Final = 0x400
COMPRESSED: Final = 0x800
OFFLINE: Final = 0x1000
ENCRYPTED: Final = 0x4000
RECALL_ON_OPEN: Final = 0x40000
RECALL_ON_DATA_ACCESS: Final = 0x400000
"""FILE_ATTRIBUTE_* (MS-FSCC 2.6)."""

_EPOCH: Final = 116444736000000000
"""FILETIME (100 ns since 1601) of 1970-01-01."""

_INDEX_BITS: Final = 40


def to_ns(filetime: int) -> int:
    """ns since 1970 of a FILETIME."""
    return (filetime - _EPOCH) * 100


def to_filetime(ns: int) -> int:
    """Rounded down to 100 ns."""
    return ns // 100 + _EPOCH


def fold_reference(reference: int) -> int:
    """The 56 bits of an object id's inode: a file reference is a 48-bit record number and a 16-bit sequence number
    (MS-FSCC 2.1.9), which changes when the record is used again. Records from 2**40 on do not exist (NTFS holds at
    most 2**32 - 1 files). ValueError: such a number, or 0."""
    index, sequence = reference & (1 << 48) - 1, reference >> 48 & 0xFFFF
    if index >> _INDEX_BITS or not reference:
        raise ValueError(f"no NTFS file reference: {reference:#x}")
    return sequence << _INDEX_BITS | index


def unfold_reference(inode: int) -> int:
    """The file reference again."""
    return (inode >> _INDEX_BITS) << 48 | inode & (1 << _INDEX_BITS) - 1


class Information(NamedTuple):
    """FILE_ALL_INFORMATION without the name. Times are FILETIMEs, sizes bytes; ``ea_size`` 0: no EAs."""

    created: int
    accessed: int
    written: int
    changed: int
    attributes: int
    allocated: int
    size: int
    links: int
    delete_pending: bool
    directory: bool
    reference: int
    ea_size: int

    @property
    def reparse(self) -> bool:
        return bool(self.attributes & REPARSE)


_ALL: Final = struct.Struct("<qqqqI4xqqIBB2xQI")


def parse_all(raw: bytes) -> Information:
    """FILE_ALL_INFORMATION (MS-FSCC 2.4.2); the buffer may end behind the EA size."""
    if len(raw) < _ALL.size:
        raise ValueError("FILE_ALL_INFORMATION is too short")
    created, accessed, written, changed, attributes, allocated, size, links, pending, directory, reference, eas = (
        _ALL.unpack_from(raw)
    )
    return Information(
        created, accessed, written, changed, attributes, allocated, size, links, bool(pending), bool(directory),
        reference, eas,
    )  # fmt: skip


class Entry(NamedTuple):
    """One name of a directory. ``reparse_tag`` 0: no reparse point. ``short``: the 8.3 name, or empty."""

    name: bytes
    short: bytes
    reference: int
    attributes: int
    size: int
    written: int
    changed: int
    reparse_tag: int


_ENTRY: Final = struct.Struct("<IIqqqqqqIIIB1x24s2xQ")


def parse_directory(raw: bytes) -> Iterator[Entry]:
    """FILE_ID_BOTH_DIR_INFORMATION (MS-FSCC 2.4.17), "." and ".." left out.

    Of a reparse point the field of the EA size holds the tag.
    """
    for at, end in _chain(raw, _ENTRY.size):
        fields = _ENTRY.unpack_from(raw, at)
        _, _, _, _, written, changed, size, _, attributes, length, extra, short_length, short, reference = fields
        name = raw[at + _ENTRY.size : at + _ENTRY.size + length]
        if len(name) != length or at + _ENTRY.size + length > end or short_length > 24:
            raise ValueError("a directory entry reaches beyond its end")
        if name in (b".\0", b".\0.\0"):
            continue
        tag = extra if attributes & REPARSE else 0
        short_name = to_bytes(short[:short_length])
        yield Entry(to_bytes(name), short_name, reference, attributes, size, written, changed, tag)


class Stream(NamedTuple):
    """A data stream. ``name`` without colons and type; empty for the content itself."""

    name: bytes
    size: int
    allocated: int


def parse_streams(raw: bytes) -> list[Stream]:
    """FILE_STREAM_INFORMATION (MS-FSCC 2.4.43). Names come as ``:name:$DATA``; other types are left out."""
    found = []
    for at, end in _chain(raw, 24):
        length, size, allocated = struct.unpack_from("<Iqq", raw, at + 4)
        if at + 24 + length > end:
            raise ValueError("a stream's name reaches beyond its end")
        full = to_bytes(raw[at + 24 : at + 24 + length])
        name, separator, kind = full.removeprefix(b":").rpartition(b":")
        if separator and kind == b"$DATA":
            found.append(Stream(name, size, allocated))
    return found


class ExtendedAttribute(NamedTuple):
    name: bytes
    value: bytes
    flags: int


def parse_eas(raw: bytes) -> list[ExtendedAttribute]:
    """FILE_FULL_EA_INFORMATION (MS-FSCC 2.4.15). ``flags`` 0x80: FILE_NEED_EA."""
    found = []
    for at, end in _chain(raw, 8):
        flags, name_length, value_length = struct.unpack_from("<BBH", raw, at + 4)
        name_at = at + 8
        value_at = name_at + name_length + 1
        if value_at + value_length > end:
            raise ValueError("an extended attribute reaches beyond its end")
        found.append(ExtendedAttribute(raw[name_at : value_at - 1], raw[value_at : value_at + value_length], flags))
    return found


def parse_ranges(raw: bytes) -> list[tuple[int, int]]:
    """FILE_ALLOCATED_RANGE_BUFFER array of FSCTL_QUERY_ALLOCATED_RANGES: (offset, length)."""
    if len(raw) % 16:
        raise ValueError("allocated ranges come in pairs of 64-bit numbers")
    found = [(offset, length) for offset, length in struct.iter_unpack("<qq", raw)]
    at = 0
    for offset, length in found:
        if offset < at or length < 0:
            raise ValueError("allocated ranges must ascend")
        at = offset + length
    return found


class Run(NamedTuple):
    """Clusters: ``vcn`` in the file, ``lcn`` on the volume (-1: none, sparse or compressed away)."""

    vcn: int
    lcn: int
    clusters: int


def parse_pointers(raw: bytes) -> list[Run]:
    """RETRIEVAL_POINTERS_BUFFER (FSCTL_GET_RETRIEVAL_POINTERS)."""
    if len(raw) < 16:
        raise ValueError("retrieval pointers are too short")
    count, vcn = struct.unpack_from("<I4xq", raw)
    if len(raw) < 16 + 16 * count:
        raise ValueError("retrieval pointers are cut off")
    runs = []
    for next_vcn, lcn in struct.iter_unpack("<qq", raw[16 : 16 + 16 * count]):
        if next_vcn <= vcn:
            raise ValueError("retrieval pointers must ascend")
        runs.append(Run(vcn, lcn, next_vcn - vcn))
        vcn = next_vcn
    return runs


def _chain(raw: bytes, fixed: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each element of a list whose first field is the distance to the next one, 0 at the last."""
    at = 0
    while raw:
        if at + fixed > len(raw):
            raise ValueError("a list element reaches beyond the buffer")
        (step,) = struct.unpack_from("<I", raw, at)
        if step and (step < fixed or at + step > len(raw)):
            raise ValueError("a list element leads out of the buffer")
        yield at, at + step if step else len(raw)
        if not step:
            return
        at += step
