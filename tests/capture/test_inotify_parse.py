from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from livelift.capture.inotify_parse import RawEvent, parse


def raw(watch: int, mask: int, cookie: int, name: bytes = b"") -> bytes:
    padded = name + bytes(16 - len(name) % 16) if name else b""
    return struct.pack("=iIII", watch, mask, cookie, len(padded)) + padded


def test_names_lose_their_padding() -> None:
    buffer = raw(1, 0x100, 0, b"file") + raw(2, 0x4, 0) + raw(-1, 0x4000, 0)
    events = [RawEvent(1, 0x100, 0, b"file"), RawEvent(2, 4, 0, b""), RawEvent(-1, 0x4000, 0, b"")]
    assert parse(buffer) == (events, True)


def test_a_cut_buffer_is_not_whole_and_keeps_what_was_read() -> None:
    buffer = raw(1, 0x100, 0, b"file") + raw(2, 0x100, 0, b"other")
    assert parse(buffer[:-1]) == ([RawEvent(1, 0x100, 0, b"file")], False)
    assert parse(buffer[:40]) == ([RawEvent(1, 0x100, 0, b"file")], False)


@given(st.binary(max_size=300))
def test_any_bytes_end_without_an_exception(buffer: bytes) -> None:
    events, whole = parse(buffer)
    assert len(events) <= len(buffer) // 16 and (whole or len(buffer) > 0)
