"""A file's content by its reference, from the bytes of the volume. Pure: ``read(offset, length)`` is the caller's.

The newest state of a file may be in memory only: flush the volume first, read, and look at the file's stamp again.
Refused, never guessed: encrypted streams, and records that are torn or in use by another file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final

from livelift.ntfs.errors import NtfsError
from livelift.ntfs.lznt1 import decompress
from livelift.ntfs.record import (
    ATTRIBUTE_LIST,
    COMPRESSED,
    DATA,
    ENCRYPTED,
    Attribute,
    FileRecord,
    Listed,
    Run,
    parse_list,
    parse_record,
)

Read = Callable[[int, int], bytes]

PIECE: Final = 1 << 20
_LIST_LIMIT: Final = 256 << 10
"""An attribute list is at most 256 KiB (NTFS limit)."""
_INDEX: Final = (1 << 48) - 1


class Stream:
    """One data stream of a file, put together from all its records."""

    def __init__(self, parts: list[Attribute], cluster: int, read: Read, number: int) -> None:
        first = parts[0]
        if first.flags & ENCRYPTED:
            raise NtfsError(f"record {number}: the content is encrypted (EFS)")
        self.size = first.size
        self._initialized = min(first.initialized, first.size)
        self._value = first.value
        self._resident = first.resident
        self._unit = first.unit if first.flags & COMPRESSED else 0
        self._cluster = cluster
        self._read = read
        self._number = number
        self._runs: list[Run] = []
        for part in parts:
            if part.resident is not first.resident or (self._runs and part.first_vcn != self._end):
                raise NtfsError(f"record {number}: a part of the content is missing")
            self._runs += part.runs
        if not first.resident and self._end * cluster < self._initialized:
            raise NtfsError(f"record {number}: the runs end before the content does")

    @property
    def _end(self) -> int:
        return self._runs[-1].vcn + self._runs[-1].clusters if self._runs else 0

    def chunks(self) -> Iterator[tuple[int, bytes]]:
        """(offset, bytes) in order, at most 1 MiB each; what is not in them is zeros."""
        if self._resident:
            if self._value:
                yield 0, self._value
        elif self._unit:
            yield from self._compressed()
        else:
            yield from self._plain()

    def _plain(self) -> Iterator[tuple[int, bytes]]:
        for run in self._runs:
            if run.lcn < 0:
                continue
            start = run.vcn * self._cluster
            stop = min(start + run.clusters * self._cluster, self._initialized)
            for at in range(start, stop, PIECE):
                length = min(PIECE, stop - at)
                yield at, self._exactly(run.lcn * self._cluster + at - start, length)

    def _compressed(self) -> Iterator[tuple[int, bytes]]:
        """By units: all on the disk is plain, nothing on the disk is zeros, in between is compressed."""
        unit = self._unit * self._cluster
        runs = iter(self._runs)
        left: list[Run] = []
        for start in range(0, -(-self._end // self._unit) * self._unit, self._unit):
            pieces: list[Run] = []
            want = self._unit
            while want:
                run = left.pop() if left else next(runs, None)
                if run is None:
                    break
                take = min(want, run.clusters)
                pieces.append(Run(run.vcn, run.lcn, take))
                if take < run.clusters:
                    left.append(Run(run.vcn + take, run.lcn + take if run.lcn >= 0 else -1, run.clusters - take))
                want -= take
            offset = start * self._cluster
            if offset >= self._initialized:
                return
            present = [piece for piece in pieces if piece.lcn >= 0]
            if not present:
                continue
            data = b"".join(self._exactly(p.lcn * self._cluster, p.clusters * self._cluster) for p in present)
            if len(data) < unit and len(present) < len(pieces):
                data = decompress(data, unit).ljust(unit, b"\0")
            yield offset, data[: self._initialized - offset]

    def _exactly(self, offset: int, length: int) -> bytes:
        data = self._read(offset, length)
        if len(data) != length:
            raise NtfsError(f"record {self._number}: a data run lies behind the end of the volume")
        return data


class Volume:
    """``read(offset, length)`` gives bytes of the volume, fewer only at its end; it may raise OSError."""

    def __init__(self, read: Read) -> None:
        """NtfsError: not an NTFS volume."""
        self._read = read
        boot = read(0, 512)
        if len(boot) < 512 or boot[3:11] != b"NTFS    ":
            raise NtfsError("it has no NTFS boot sector")
        sector, per_cluster = struct.unpack_from("<HB", boot, 11)
        (mft,) = struct.unpack_from("<Q", boot, 48)
        (record,) = struct.unpack_from("<b", boot, 64)
        sectors = per_cluster if per_cluster <= 128 else 1 << (256 - per_cluster)
        self.cluster = sector * sectors
        self.record = record * self.cluster if record > 0 else 1 << -record
        if sector not in (256, 512, 1024, 2048, 4096) or not 256 <= self.cluster <= 2 << 20:
            raise NtfsError("impossible sizes in the boot sector")
        if self.record not in (1024, 2048, 4096):
            raise NtfsError("impossible sizes in the boot sector")
        self._mft: list[Run] = []
        self._open_mft(mft * self.cluster)

    def open(self, reference: int, name: str = "") -> Stream:
        """The stream of a file (empty: its content). NtfsError: it has none, or another file has the record now."""
        record = self.file(reference)
        return Stream(self._parts(record, DATA, name), self.cluster, self._read, record.number)

    def file(self, reference: int) -> FileRecord:
        """The base record of a file reference; sequence number 0 takes whatever is there."""
        number, sequence = reference & _INDEX, reference >> 48
        record = parse_record(self._record(number), number)
        if not record.in_use or record.base & _INDEX or (sequence and record.sequence != sequence):
            raise NtfsError(f"record {number} belongs to another file by now")
        return record

    def _open_mft(self, offset: int) -> None:
        """The table's own record tells where the table is; a fragmented table's record does so step by step."""
        first = parse_record(self._read(offset, self.record), 0)
        self._mft = [run for a in first.attributes if a.kind == DATA and not a.name for run in a.runs]
        if not self._mft:
            raise NtfsError("the file table has no place")
        self._mft = [run for part in self._parts(first, DATA, "") for run in part.runs]

    def _record(self, number: int) -> bytes:
        offset = number * self.record
        vcn = offset // self.cluster
        for run in self._mft:
            if run.vcn <= vcn < run.vcn + run.clusters and run.lcn >= 0:
                place = (run.lcn + vcn - run.vcn) * self.cluster + offset % self.cluster
                inside = (run.vcn + run.clusters) * self.cluster - offset
                if inside < self.record:  # records larger than a cluster never cross a run (NTFS allocates them so)
                    break
                return self._read(place, self.record)
        raise NtfsError(f"record {number} lies outside of the file table")

    def _parts(self, record: FileRecord, kind: int, name: str) -> list[Attribute]:
        """All pieces of an attribute, from the extension records too, in order."""
        found = [a for a in record.attributes if a.kind == kind and a.name == name]
        lists = [a for a in record.attributes if a.kind == ATTRIBUTE_LIST]
        if lists:
            elsewhere = sorted(
                {
                    e.reference & _INDEX
                    for e in self._listed(lists[0], record.number)
                    if (e.kind, e.name) == (kind, name)
                }
                - {record.number}
            )
            for number in elsewhere:
                extension = parse_record(self._record(number), number)
                if extension.base & _INDEX != record.number or not extension.in_use:
                    raise NtfsError(f"record {number} no longer belongs to record {record.number}")
                found += [a for a in extension.attributes if a.kind == kind and a.name == name]
        found.sort(key=lambda part: part.first_vcn)
        if not found or found[0].first_vcn:
            raise NtfsError(f"record {record.number} has no such stream")
        return found

    def _listed(self, attribute: Attribute, number: int) -> list[Listed]:
        if attribute.size > _LIST_LIMIT:
            raise NtfsError(f"record {number}: an attribute list of {attribute.size} bytes")
        content = bytearray(attribute.size)
        for offset, data in Stream([attribute], self.cluster, self._read, number).chunks():
            content[offset : offset + len(data)] = data
        return parse_list(bytes(content), number)
