"""A page: the BASE_FILE records of many small files under one head, with one checksum and one payload.

What a walk finds goes into the log in pages. Whoever decodes a page gets its records, with consecutive LSNs, as if each
had a head of its own; only the log's own bytes know of pages. The body is a MessagePack array of BaseFile; each file's
share of the payload is as long as its extents are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

from livelift.log.crc import Buffer, crc32c
from livelift.model.entry import stamp_of
from livelift.model.record import BaseFile, Kind

MOST: Final = 1 << 12
"""Records of one page: as many as the head's flags can count."""
SMALLEST: Final = 24
"""Bytes that one record takes in the log at least, be it in a page: its body alone has 26."""

Row = tuple[int, bytes, int, int, int, int, int]
"""(parent, name, object, mode, size, mtime, ctime): what the tree index keeps of one file."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[BaseFile]).decode
_COUNTS: Final = (0x90, 0xDC)  # MessagePack: an array of up to 15 items, of up to 65,535 items


class Page(msgspec.Struct, gc=False):
    """``body``: encoded; ``crc``: of the payload. ``rows`` and ``linked`` (objects with several names) spare the source
    to decode it. ``lsn`` (of the first record, 0 = not yet sequenced) and ``time`` as in a `Record`."""

    kind: ClassVar[Kind] = Kind.BASE_FILE
    elided: ClassVar[bool] = False

    body: bytes
    payload: Buffer
    crc: int
    rows: list[Row]
    linked: list[int]
    time: int = 0
    lsn: int = 0

    @property
    def count(self) -> int:
        return len(self.rows)


def make_page(files: Sequence[BaseFile], payloads: Sequence[Buffer], racy: int) -> Page:
    """``payloads``: one for each file that has content. A stamp whose change time is not before ``racy`` (ns) is not to
    be trusted: the row has 0 instead."""
    rows: list[Row] = []
    linked = []
    for file in files:
        attributes = file.attributes
        size, mtime, ctime = stamp_of(attributes)
        rows.append((file.parent, file.name, file.oid, attributes.mode, size, mtime, ctime if ctime < racy else 0))
        if attributes.nlink > 1:
            linked.append(file.oid)
    payload = payloads[0] if len(payloads) == 1 else b"".join(payloads)
    body = _encode(files[0] if len(files) == 1 else files)
    return Page(body, payload, crc32c(payload) if payload else 0, rows, linked)


def files_of(body: bytes, count: int) -> list[BaseFile]:
    """The bodies of a page's ``count`` records. msgspec.DecodeError or ValueError: not that many, or not of that
    kind."""
    first = body[0] if body else 0
    claimed = first & 0x0F if first & 0xF0 == _COUNTS[0] else int.from_bytes(body[1:3], "big")
    if claimed != count or (first & 0xF0 != _COUNTS[0] and first != _COUNTS[1]):
        raise ValueError(f"not an array of {count}")  # before anything is made of it: the bytes may be hostile
    return _decode(body)


def size_of(file: BaseFile) -> int:
    """Bytes of payload that are the file's."""
    extents = file.extents
    return extents[0][1] if len(extents) == 1 else sum(length for _, length in extents)
