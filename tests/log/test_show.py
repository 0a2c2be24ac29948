from __future__ import annotations

import json

import pytest
from hypothesis import given

from livelift.log.show import iso_time, show
from livelift.model.entry import Attributes, object_id
from livelift.model.record import Kind, Make, Range, Record, Rename, Volume
from tests.log import strategies


@strategies.calm
@given(strategies.records)
def test_every_record_is_json(record: Record) -> None:
    line = json.loads(json.dumps(show(record, content=10)))
    assert line["lsn"] == record.lsn
    assert line["kind"] == record.kind.name.lower()
    assert line.get("elided", False) == record.elided
    assert line.get("payload", 0) == (record.length if record.elided else len(record.payload))


def test_a_write() -> None:
    body = Range(object_id(3, 77), object_id(3, 2), b"caf\xe9", 4096, 6)
    record = Record(Kind.WRITE, body, b"secret", time=1_700_000_000_000_000_001, lsn=9)
    expected = {
        "lsn": 9,
        "time": "2023-11-14T22:13:20.000000001Z",
        "kind": "write",
        "object": {"volume": 3, "inode": 77},
        "parent": {"volume": 3, "inode": 2},
        "name": "caf\udce9",
        "name_hex": "636166e9",
        "offset": 4096,
        "length": 6,
        "payload": 6,
    }
    assert show(record) == expected
    assert show(record, content=100) == {**expected, "content": "c2VjcmV0"}
    assert show(record, content=3) == {**expected, "content": "c2Vj", "content_cut": True}
    record.payload, record.elided, record.length = b"", True, 6
    assert show(record, content=100) == {**expected, "elided": True}


def test_attributes() -> None:
    attributes = Attributes(0o120777, 1, 2, 5, 10**9, 0, -1, target=b"/x\xff", xattrs=((b"user.a", b"b"),))
    line = show(Record(Kind.SYMLINK, Make(1, 2, b"l", attributes), lsn=1))
    assert line["attributes"] == {
        "mode": "120777",
        "uid": 1,
        "gid": 2,
        "size": 5,
        "mtime": "1970-01-01T00:00:01.000000000Z",
        "atime": "1970-01-01T00:00:00.000000000Z",
        "ctime": "1969-12-31T23:59:59.999999999Z",
        "nlink": 1,
        "target": "/x\udcff",
        "target_hex": "2f78ff",
        "xattrs": {"user.a": "b"},
    }


def test_rename_shows_both_places() -> None:
    line = show(Record(Kind.RENAME, Rename(9, 2, b"a", 3, b"b", flags=2, victim=8), lsn=1))
    assert (line["name"], line["new_name"]) == ("a", "b")
    assert line["new_parent"] == {"volume": 0, "inode": 3}
    assert line["victim"] == {"volume": 0, "inode": 8}
    assert line["flags"] == 2


def test_volume_shows_index_zero() -> None:
    line = show(Record(Kind.VOLUME, Volume(0, "ext4", "/dev/vda1", "", b"/"), lsn=1))
    assert (line["index"], line["fstype"], line["mountpoint"]) == (0, "ext4", "/")


@pytest.mark.parametrize("ns", [-(1 << 63), (1 << 63) - 1])
def test_any_time_has_a_form(ns: int) -> None:
    assert len(iso_time(ns)) == len("1970-01-01T00:00:00.000000000Z")
