"""Whatever bytes come: a value or a WireError, nothing else."""

from __future__ import annotations

from contextlib import suppress

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from livelift.errors import WireError
from livelift.protocol import frames, messages, pairing

# Values that look like messages: a tag, then anything; these get past the first checks.
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
near_messages = st.builds(
    lambda tag, fields: msgspec.msgpack.encode([tag, *fields]), st.integers(0, 60), st.lists(anything, max_size=8)
)


@settings(max_examples=400)
@given(st.binary(max_size=200) | near_messages)
@example(b"\x96\x02\x01\x01\x01" + b"\x81" * 5000)  # depth
@example(b"\x95\x02\x01\x01\x01\x81\xa1a\xc7\x0c\xff" + b"\xff" * 12)  # a timestamp that no calendar holds
@example(b"\x92\x0f\xa2\xff\xff")  # text that is not UTF-8
@example(b"\x92\x0f\xdb\xff\xff\xff\xff")  # a string of 4 GiB in 7 bytes
@example(b"\x95\x02\x01\x01\x01\xdf\xff\xff\xff\xff")  # a map of 4 G entries
def test_messages(data):
    with suppress(WireError):
        messages.decode(messages.encode(messages.decode(data)))


@settings(max_examples=400)
@given(st.binary(max_size=200) | near_messages)
def test_pairing(data):
    with suppress(WireError):
        pairing.encode(pairing.decode(data))
    with suppress(WireError):
        assert pairing.length_of(data[:4]) <= pairing.MAX_PAIRING


@given(st.binary(min_size=40, max_size=56))
def test_frame_headers(data):
    with suppress(WireError):
        header = frames.parse(data)
        assert frames.build(header) == data


@given(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 5),
        st.integers(0, (1 << 64) - 1),
        st.integers(0, (1 << 64) - 1),
        *[st.integers(0, (1 << 32) - 1) | st.integers(0, 9 << 20)] * 5,
    )
)
def test_whatever_a_header_says_with_a_right_checksum_no_limit_is_passed(fields):
    kind, flags, *rest = fields
    raw = frames._FIELDS.pack(frames.MAGIC, kind, flags, 0, *rest)
    data = raw + frames._SUM.pack(frames.google_crc32c.value(raw))
    with suppress(WireError):
        header = frames.parse(data)
        assert header.heads_wire <= header.heads_raw <= frames.MAX_HEADS
        assert header.blob_wire <= header.blob_raw <= frames.MAX_BLOB
