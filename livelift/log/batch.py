"""A batch: the unit of spool and wire. All heads back to back, all payloads back to back, LSNs consecutive.

A payload is never copied into a head: the sender hands ``blobs`` to the socket as they are, the receiver gets one blob
(straight into aligned memory if it likes) and the records point into it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from livelift.errors import CorruptError
from livelift.log.codec import ELIDED, HEADER, HEADER_SIZE, MAX_HEAD, decode_head, encode_head, seal
from livelift.log.crc import Buffer, crc32c
from livelift.model.record import RELOADABLE, Record

_SIZE = struct.Struct("<I")
_RELOADABLE = frozenset(int(kind) for kind in RELOADABLE)


class Batch(msgspec.Struct):
    """``blobs`` has one item per record that carries a payload, in order; read from disk it may be one, joined."""

    first_lsn: int
    count: int
    heads: bytes
    blobs: list[Buffer]
    payload_size: int = -1

    def __post_init__(self) -> None:
        if self.payload_size < 0:
            self.payload_size = sum(map(len, self.blobs))

    @property
    def last_lsn(self) -> int:
        return self.first_lsn + self.count - 1

    @property
    def size(self) -> int:
        """Bytes of heads and payloads."""
        return len(self.heads) + self.payload_size


class Head(NamedTuple):
    """One head found without decoding its body."""

    start: int
    end: int
    kind: int
    elided: bool
    payload: int  # bytes in the blob


def heads_of(heads: bytes) -> Iterator[Head]:
    """Walk over heads by their headers alone, not checking CRCs. CorruptError where a length cannot be."""
    offset, total, unpack = 0, len(heads), HEADER.unpack_from
    while offset < total:
        if total - offset < HEADER_SIZE:
            raise CorruptError(f"record head at offset {offset} is cut off")
        size, kind, flags, _, _, payload_len, _, _ = unpack(heads, offset)
        end = offset + size
        if not HEADER_SIZE <= size <= MAX_HEAD or end > total:
            raise CorruptError(f"record head at offset {offset} claims {size} bytes")
        elided = bool(flags & ELIDED)
        yield Head(offset, end, kind, elided, 0 if elided else payload_len)
        offset = end


def make_batch(records: Sequence[Record]) -> Batch:
    """Encode records whose LSNs are already set and consecutive."""
    first = records[0].lsn
    heads = []
    blobs: list[Buffer] = []
    for expected, record in enumerate(records, first):
        if record.lsn != expected:
            raise ValueError(f"LSN {record.lsn} in a batch where {expected} is next")
        heads.append(encode_head(record))
        if record.payload and not record.elided:
            blobs.append(record.payload)
    return Batch(first, len(heads), b"".join(heads), blobs)


def make_stored(records: Sequence[Record]) -> tuple[Batch, Batch]:
    """The batch, and what is kept of it on disk: without the payloads that can be read again. As `make_batch` and then
    `batch_elided`, without looking at every head twice: most of a base copy goes this way."""
    batch = make_batch(records)
    heads: list[bytes] = []
    blobs: list[Buffer] = []
    at = 0
    for record in records:
        size = _SIZE.unpack_from(batch.heads, at)[0]
        end = at + size
        payload = record.payload
        if not payload or record.elided:
            heads.append(batch.heads[at:end])
        elif record.kind in RELOADABLE:
            body = batch.heads[at + HEADER_SIZE : end]
            heads.append(seal(record.kind, ELIDED, record.lsn, record.time, len(payload), 0, body))
        else:
            heads.append(batch.heads[at:end])
            blobs.append(payload)
        at = end
    return batch, Batch(batch.first_lsn, batch.count, b"".join(heads), blobs)


def records_of(heads: Buffer, blob: Buffer, verify: bool = True) -> list[Record]:
    """Decode a batch. Payloads are memoryview slices of ``blob``; with ``verify`` their CRCs are checked.

    CorruptError: damage, lengths that do not add up, or LSNs not consecutive. WireError: unknown required kind.
    """
    raw = heads if type(heads) is bytes else bytes(heads)
    view = memoryview(blob)
    records = []
    offset = position = 0
    total, limit = len(raw), len(view)
    expected = -1
    while offset < total:
        start = offset
        record, length, crc, offset = decode_head(raw, offset)
        lsn = HEADER.unpack_from(raw, start)[3] if record is None else record.lsn
        if lsn != expected and expected >= 0:
            raise CorruptError(f"LSN {lsn} at offset {start} where {expected} is next")
        expected = lsn + 1
        end = position + length
        if end > limit:
            raise CorruptError(f"LSN {lsn} claims payload up to {end} of {limit} bytes")
        if record is not None:
            if length:
                payload = view[position:end]
                if verify and crc32c(payload) != crc:
                    raise CorruptError(f"payload of LSN {lsn}: checksum mismatch")
                record.payload = payload
            records.append(record)
        position = end
    if position != limit:
        raise CorruptError(f"{limit - position} bytes of payload belong to no record")
    return records


def batch_elided(batch: Batch, kinds: frozenset[int] = _RELOADABLE) -> Batch:
    """The batch without the payloads of these kinds: their heads say ELIDED and keep the length. Itself if none is."""
    heads: list[bytes] = []
    blobs: list[Buffer] = []
    source = iter(batch.blobs)
    raw = batch.heads
    copied = 0
    for head in heads_of(raw):
        if not head.payload:
            continue
        blob = next(source)
        if head.kind not in kinds:
            blobs.append(blob)
            continue
        _, kind, _, lsn, time, length, _, _ = HEADER.unpack_from(raw, head.start)
        heads.append(raw[copied : head.start])
        heads.append(seal(kind, ELIDED, lsn, time, length, 0, raw[head.start + HEADER_SIZE : head.end]))
        copied = head.end
    if not heads:
        return batch
    heads.append(raw[copied:])
    return Batch(batch.first_lsn, batch.count, b"".join(heads), blobs)


def batch_after(batch: Batch, lsn: int) -> Batch:
    """The rest of a batch behind ``lsn``, which lies inside it. ``blobs``: one per payload, or one joined blob."""
    skip = lsn + 1 - batch.first_lsn
    if not 0 <= skip < batch.count:
        raise ValueError(f"LSN {lsn} does not split {batch.first_lsn}..{batch.last_lsn}")
    heads = list(heads_of(batch.heads))
    if not skip:
        return batch
    payloads = sum(head.payload for head in heads[:skip])
    rest: list[Buffer] = []
    for blob in batch.blobs:
        if payloads >= len(blob):
            payloads -= len(blob)
        else:
            rest.append(memoryview(blob)[payloads:] if payloads else blob)
            payloads = 0
    return Batch(lsn + 1, batch.count - skip, batch.heads[heads[skip].start :], rest)


def divided(batch: Batch, heads: int, payload: int) -> Iterator[Batch]:
    """The batch in pieces that keep to these bytes, for whoever has limits that the log has not: itself if it does. A
    single record that is larger is a piece of its own."""
    if len(batch.heads) <= heads and batch.payload_size <= payload:
        yield batch
        return
    blobs = iter(batch.blobs)
    if len(batch.blobs) == 1:
        blobs = iter(split_blob(batch.heads, batch.blobs[0]))
    first, start, end, count, size = batch.first_lsn, 0, 0, 0, 0
    taken: list[Buffer] = []
    for head in heads_of(batch.heads):
        if count and (head.end - start > heads or size + head.payload > payload):
            yield Batch(first, count, batch.heads[start:end], taken, size)
            first, start, count, size, taken = first + count, head.start, 0, 0, []
        if head.payload:
            taken.append(next(blobs))
        count, size, end = count + 1, size + head.payload, head.end
    yield Batch(first, count, batch.heads[start:end], taken, size)


def split_blob(heads: bytes, blob: Buffer) -> list[Buffer]:
    """One memoryview per payload of a joined blob. CorruptError if the lengths do not add up."""
    view = memoryview(blob)
    parts: list[Buffer] = []
    position = 0
    for head in heads_of(heads):
        if head.payload:
            parts.append(view[position : position + head.payload])
            position += head.payload
    if position != len(view):
        raise CorruptError(f"payloads of {position} bytes in a blob of {len(view)}")
    return parts
