"""A record for people and scripts: a dict of JSON values, one line of `livelift log show`."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from typing import Any, Final

from livelift.model.entry import Attributes, inode_of, volume_of
from livelift.model.record import Record, Volume

_SECOND: Final = 1_000_000_000
_OBJECTS: Final = frozenset({"oid", "parent", "new_parent", "old_parent", "source_oid", "source_parent", "victim"})
_NAMES: Final = {"oid": "object", "source_oid": "source_object"}


def show(record: Record, content: int = 0) -> dict[str, Any]:
    """The record as a dict. ``content``: so many bytes of the payload at most, in base64 (0: none).

    Objects are {"volume", "inode"}; byte strings are text, with ``<field>_hex`` beside them where they are not UTF-8
    (the text then holds surrogates, PEP 383). Times are ISO 8601, UTC, with nanoseconds. ``payload`` is its length.
    """
    line: dict[str, Any] = {"lsn": record.lsn, "time": iso_time(record.time), "kind": record.kind.name.lower()}
    body = record.body
    for field in body.__struct_fields__:
        value = getattr(body, field)
        if field in _OBJECTS:
            if value or field != "victim":
                line[_NAMES.get(field, field)] = {"volume": volume_of(value), "inode": inode_of(value)}
        elif isinstance(value, Attributes):
            line[field] = _attributes(value)
        elif isinstance(value, bytes):
            _put(line, field, value)
        elif isinstance(value, tuple):
            if value:
                line[field] = [list(pair) for pair in value]
        elif value or field in ("offset", "length", "label") or isinstance(body, Volume):
            line[field] = value
    if record.elided:
        line["payload"] = record.length
        line["elided"] = True
    elif len(record.payload):
        line["payload"] = len(record.payload)
        if content > 0:
            line["content"] = b64encode(record.payload[:content]).decode("ascii")
            if len(record.payload) > content:
                line["content_cut"] = True
    return line


def iso_time(ns: int) -> str:
    """1970-01-01T00:00:00.000000000Z and the like, for any 64-bit number of nanoseconds."""
    seconds, rest = divmod(ns, _SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _attributes(value: Attributes) -> dict[str, Any]:
    line: dict[str, Any] = {
        "mode": f"{value.mode:06o}",
        "uid": value.uid,
        "gid": value.gid,
        "size": value.size,
        "mtime": iso_time(value.mtime),
        "atime": iso_time(value.atime),
        "ctime": iso_time(value.ctime),
        "nlink": value.nlink,
    }
    for field in ("rdev", "flags", "project"):
        if number := getattr(value, field):
            line[field] = number
    if value.target:
        _put(line, "target", value.target)
    if value.xattrs:
        xattrs: dict[str, Any] = {}
        for name, data in value.xattrs:
            _put(xattrs, name.decode("utf-8", "surrogateescape"), data)
        line["xattrs"] = xattrs
    return line


def _put(line: dict[str, Any], field: str, value: bytes) -> None:
    line[field] = value.decode("utf-8", "surrogateescape")
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        line[f"{field}_hex"] = value.hex()
