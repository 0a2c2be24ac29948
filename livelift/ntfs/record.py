"""File records: the fixup of their sectors, their attributes, their data runs. Pure and bounded.

Layout as in the NTFS documentation of the Linux-NTFS project and in MS-FSCC for what both describe.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from livelift.ntfs.errors import NtfsError

ATTRIBUTE_LIST: Final = 0x20
DATA: Final = 0x80
END: Final = 0xFFFFFFFF

COMPRESSED: Final = 0x00FF
ENCRYPTED: Final = 0x4000

IN_USE: Final = 0x1
_SECTOR: Final = 512
_MAX_RUNS: Final = 1 << 20


class Run(NamedTuple):
    """``lcn`` -1: nothing on the disk (a hole, or the rest of a compressed unit). In clusters."""

    vcn: int
    lcn: int
    clusters: int


class Attribute(NamedTuple):
    """One attribute as it stands in a record. Resident: ``value``. Otherwise its runs from ``first_vcn`` on; the sizes
    are right where that is 0."""

    kind: int
    name: str
    flags: int
    resident: bool
    value: bytes
    first_vcn: int
    runs: tuple[Run, ...]
    size: int
    initialized: int
    unit: int  # clusters of a compression unit, 0: not compressed


class Listed(NamedTuple):
    """An entry of an attribute list: which record holds a part of the attribute."""

    kind: int
    name: str
    first_vcn: int
    reference: int


class FileRecord(NamedTuple):
    number: int
    sequence: int
    in_use: bool
    base: int  # reference of the base record, 0 in a base record
    attributes: tuple[Attribute, ...]


def parse_record(raw: bytes, number: int) -> FileRecord:
    """One FILE record. NtfsError: torn, damaged, or not a record."""
    if len(raw) < 48 or raw[:4] != b"FILE":
        raise NtfsError(f"record {number} is not a file record")
    fixed = _fixed(raw, number)
    sequence, _, at, flags, used = struct.unpack_from("<HHHHI", fixed, 16)
    (base,) = struct.unpack_from("<Q", fixed, 32)
    if used > len(fixed) or at < 42 or at > used:
        raise NtfsError(f"record {number} has impossible sizes")
    attributes = tuple(_attributes(fixed[:used], at, number))
    return FileRecord(number, sequence, bool(flags & IN_USE), base, attributes)


def _fixed(raw: bytes, number: int) -> bytes:
    """The last two bytes of every sector were replaced by a number that tells a torn write; put them back."""
    at, count = struct.unpack_from("<HH", raw, 4)
    if count < 1 or at + 2 * count > len(raw) or (count - 1) * _SECTOR > len(raw):
        raise NtfsError(f"record {number} has an impossible update sequence")
    mark = raw[at : at + 2]
    fixed = bytearray(raw)
    for sector in range(count - 1):
        end = (sector + 1) * _SECTOR
        if raw[end - 2 : end] != mark:
            raise NtfsError(f"record {number} is torn: it was being written")
        fixed[end - 2 : end] = raw[at + 2 + 2 * sector : at + 4 + 2 * sector]
    return bytes(fixed)


def _attributes(raw: bytes, at: int, number: int) -> Iterator[Attribute]:
    while at + 4 <= len(raw):
        (kind,) = struct.unpack_from("<I", raw, at)
        if kind == END:
            return
        if at + 24 > len(raw):
            break
        (length,) = struct.unpack_from("<I", raw, at + 4)
        if length < 24 or length % 8 or at + length > len(raw):
            raise NtfsError(f"record {number}: an attribute has an impossible length")
        yield _attribute(raw[at : at + length], kind, number)
        at += length
    raise NtfsError(f"record {number} has no end")


def _attribute(raw: bytes, kind: int, number: int) -> Attribute:
    nonresident, name_length, name_at, flags = struct.unpack_from("<BBHH", raw, 8)
    if name_at + 2 * name_length > len(raw):
        raise NtfsError(f"record {number}: an attribute's name reaches beyond it")
    name = raw[name_at : name_at + 2 * name_length].decode("utf-16-le", "surrogatepass")
    if not nonresident:
        size, at = struct.unpack_from("<IH", raw, 16)
        if at + size > len(raw):
            raise NtfsError(f"record {number}: an attribute's value reaches beyond it")
        return Attribute(kind, name, flags, True, raw[at : at + size], 0, (), size, size, 0)
    if len(raw) < 64:
        raise NtfsError(f"record {number}: an attribute is too short")
    first, last, runs_at, unit = struct.unpack_from("<QQHH", raw, 16)
    _, size, initialized = struct.unpack_from("<QQQ", raw, 40)
    if runs_at < 64 or runs_at > len(raw) or unit > 8:
        raise NtfsError(f"record {number}: an attribute's runs lie outside of it")
    runs = tuple(parse_runs(raw[runs_at:], first, number))
    end = runs[-1].vcn + runs[-1].clusters if runs else first
    if end != last + 1 and not (not runs and (last + 1) & (1 << 64) - 1 == first):
        raise NtfsError(f"record {number}: the runs do not reach the attribute's end")
    return Attribute(kind, name, flags, False, b"", first, runs, size, initialized, 1 << unit if unit else 0)


def parse_runs(raw: bytes, vcn: int, number: int = 0) -> Iterator[Run]:
    """Mapping pairs: a byte of two lengths, the count of clusters, the signed step of the place on the disk."""
    at = lcn = count = 0
    while at < len(raw) and raw[at]:
        lengths, places = raw[at] & 15, raw[at] >> 4
        if not 1 <= lengths <= 8 or places > 8 or at + 1 + lengths + places > len(raw):
            raise NtfsError(f"record {number}: damaged data runs")
        clusters = int.from_bytes(raw[at + 1 : at + 1 + lengths], "little")
        step = int.from_bytes(raw[at + 1 + lengths : at + 1 + lengths + places], "little", signed=True)
        at += 1 + lengths + places
        count += 1
        if not clusters or vcn + clusters >= 1 << 52 or count > _MAX_RUNS:
            raise NtfsError(f"record {number}: damaged data runs")
        if places:
            lcn += step
            if lcn < 0:
                raise NtfsError(f"record {number}: a data run lies before the volume")
        yield Run(vcn, lcn if places else -1, clusters)
        vcn += clusters


def parse_list(raw: bytes, number: int) -> list[Listed]:
    """The content of an attribute list."""
    found = []
    at = 0
    while at < len(raw):
        if at + 26 > len(raw):
            raise NtfsError(f"record {number}: the attribute list is cut off")
        kind, length, name_length, name_at, first, reference = struct.unpack_from("<IHBBQQ", raw, at)
        if length < 26 or at + length > len(raw) or name_at + 2 * name_length > length:
            raise NtfsError(f"record {number}: damaged attribute list")
        name = raw[at + name_at : at + name_at + 2 * name_length].decode("utf-16-le", "surrogatepass")
        found.append(Listed(kind, name, first, reference))
        at += length
    return found
