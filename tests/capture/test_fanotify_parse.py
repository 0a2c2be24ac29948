"""The parser against constructed buffers, and against bytes that no kernel ever wrote."""

from __future__ import annotations

import struct
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livelift.capture.fanotify_parse import parse, split_key
from livelift.platform.linux import fanotify as f
from livelift.ports import Dirty, Lost, Named, Op

FSID = b"\x01\x02\x03\x04\x05\x06\x07\x08"


def info(kind: int, inode: int, name: bytes | None = None) -> bytes:
    body = FSID + struct.pack("=IiII", 8, 1, inode, 77)
    if name is not None:
        body += name + b"\0"
        body += bytes(-len(body) % 4)
    return struct.pack("=BxH", kind, 4 + len(body)) + body


def event(mask: int, *records: bytes, pid: int = 42) -> bytes:
    body = b"".join(records)
    return struct.pack("=IBBHQii", 24 + len(body), f.METADATA_VERSION, 0, 24, mask, -1, pid) + body


class Oids(dict[bytes, int]):
    def __missing__(self, key: bytes) -> int:
        fsid, handle = split_key(key)
        assert fsid == FSID and handle[:4] == b"\x01\0\0\0"
        return int(struct.unpack_from("=I", handle, 4)[0])


HANDLE = struct.pack("=iII", 1, 12, 77)


def test_a_created_file_carries_its_handle() -> None:
    buffer = event(f.CREATE, info(f.INFO_DFID_NAME, 2, b"x"), info(f.INFO_FID, 12))
    assert parse(buffer, Oids(), 9) == [Named(Op.CREATED, 2, b"x", 12, 0, b"", False, HANDLE, 9)]


def test_rename_has_both_places_and_one_that_is_half_ours_is_touched() -> None:
    def rename(old: int, new: int) -> bytes:
        return event(
            f.RENAME | f.ONDIR,
            info(f.INFO_OLD_DFID_NAME, old, b"a"),
            info(f.INFO_NEW_DFID_NAME, new, b"b"),
            info(f.INFO_FID, 12),
        )

    assert parse(rename(2, 3), Oids()) == [Named(Op.RENAMED, 2, b"a", 12, 3, b"b", True, HANDLE)]
    assert parse(rename(2, 0), Oids()) == [Named(Op.TOUCHED, 2, b"a", 12, 0, b"", True, HANDLE)]
    assert parse(rename(0, 3), Oids()) == [Named(Op.TOUCHED, 3, b"b", 12, 0, b"", True, HANDLE)]
    assert parse(rename(0, 0), Oids()) == []


def test_names_without_a_child_are_touched() -> None:
    for mask in (f.CREATE, f.DELETE, f.MOVED_FROM, f.MOVED_TO):
        assert parse(event(mask, info(f.INFO_DFID_NAME, 2, b"x")), Oids()) == [Named(Op.TOUCHED, 2, b"x")]


def test_events_on_a_directory_itself_have_no_place() -> None:
    buffer = event(f.ATTRIB | f.ONDIR, info(f.INFO_DFID_NAME, 12, b"."))
    assert parse(buffer, Oids()) == [Dirty(12, False, handle=HANDLE)]
    assert parse(event(f.ATTRIB | f.ONDIR, info(f.INFO_DFID, 12)), Oids()) == [Dirty(12, False, handle=HANDLE)]


def test_one_dirty_for_each_object_and_content_covers_attributes() -> None:
    def change(mask: int, inode: int) -> bytes:
        return event(mask, info(f.INFO_FID, inode))

    buffer = b"".join(
        [
            change(f.ATTRIB, 1),
            change(f.MODIFY, 2),
            change(f.ATTRIB, 1),
            change(f.MODIFY, 1),
            change(f.MODIFY, 2),
            change(f.ATTRIB, 2),
            change(f.MODIFY | f.ATTRIB, 3),
        ]
    )
    changes = [(event.oid, event.content) for event in parse(buffer, Oids()) if isinstance(event, Dirty)]
    assert changes == [(1, False), (2, True), (1, True), (3, True)]


def test_a_name_and_a_change_in_one_event_are_both_reported() -> None:
    buffer = event(f.CREATE | f.MODIFY, info(f.INFO_DFID_NAME, 2, b"x"), info(f.INFO_FID, 12))
    named, dirty = parse(buffer, Oids())
    assert isinstance(named, Named) and named.op == Op.CREATED
    assert isinstance(dirty, Dirty) and dirty[:4] == (12, True, 2, b"x")


def test_overflow_and_file_system_errors() -> None:
    assert parse(event(f.Q_OVERFLOW), Oids(), 5) == [Lost(0, -1, "queue overflow", 5)]
    assert parse(event(f.FS_ERROR, info(f.INFO_FID, 1)), Oids()) == []


def test_own_pid_is_dropped_but_not_the_objects_of_the_capture() -> None:
    buffer = event(f.ATTRIB, info(f.INFO_FID, 1), pid=9) + event(f.ATTRIB, info(f.INFO_FID, 2), pid=9)
    own = Oids({buffer[28:52]: -1})
    assert [event.oid for event in parse(buffer, own, ignore_pid=9) if isinstance(event, Dirty)] == [-1]
    assert len(parse(buffer, own)) == 2


def test_foreign_objects_are_silent() -> None:
    buffer = event(f.CREATE, info(f.INFO_DFID_NAME, 0, b"x"), info(f.INFO_FID, 0)) + event(
        f.MODIFY, info(f.INFO_DFID_NAME, 0, b"x"), info(f.INFO_FID, 0)
    )
    assert parse(buffer, Oids()) == []


GOOD = event(f.CREATE, info(f.INFO_DFID_NAME, 2, b"x"), info(f.INFO_FID, 12))


@pytest.mark.parametrize(
    "bad",
    [
        GOOD[:-1],
        GOOD[:10],
        b"\0" * 24,
        GOOD[:4] + b"\x04" + GOOD[5:],  # version
        GOOD[:6] + b"\xff\xff" + GOOD[8:],  # metadata longer than the event
        GOOD[:26] + b"\0\0" + GOOD[28:],  # a record of length 0 would loop
        GOOD[:36] + b"\xff\xff\xff\xff" + GOOD[40:],  # a handle beyond the record
    ],
)
def test_malformed_bytes_are_lost_and_what_came_before_is_kept(bad: bytes) -> None:
    events = parse(GOOD + bad, Oids())
    assert len(events) == 2
    assert isinstance(events[0], Named)
    assert isinstance(events[1], Lost) and events[1].volume == -1


@given(st.binary(max_size=300))
def test_any_bytes_end_without_an_exception(buffer: bytes) -> None:
    parse(buffer, defaultdict(int))


@given(st.data())
def test_any_damage_to_good_events_ends_without_an_exception(data: st.DataObject) -> None:
    buffer = bytearray(GOOD * 3)
    for _ in range(data.draw(st.integers(1, 4))):
        buffer[data.draw(st.integers(0, len(buffer) - 1))] = data.draw(st.integers(0, 255))
    parse(bytes(buffer), defaultdict(lambda: 5))
