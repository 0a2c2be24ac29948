from __future__ import annotations

import os
import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from livelift.errors import WireError
from livelift.protocol.frames import ZSTD_BLOB, ZSTD_HEADS
from livelift.transport.compress import PAUSE, Compression, IdleCores, Packer, Unpacker

WORDS = random.Random(1).choices([b"alpha ", b"beta ", b"gamma ", b"delta ", b"epsilon\n"], k=60_000)
TEXT = b"".join(WORDS)
HEADS = TEXT[:5000]
NOISE = os.urandom(300_000)


def restored(packed, heads_size, blob_size):
    unpacker = Unpacker()
    heads = unpacker.unpack(packed.heads, heads_size) if packed.flags & ZSTD_HEADS else bytes(packed.heads)
    blob = b"".join(packed.blobs)
    assert len(blob) == packed.blob_wire
    if packed.flags & ZSTD_BLOB:
        room = bytearray(blob_size)
        unpacker.unpack_into(blob, memoryview(room))
        blob = bytes(room)
    return heads, blob


@pytest.mark.parametrize("level", [0, -5, -1, 1, 3])
@pytest.mark.parametrize("blobs", [[], [TEXT], [NOISE], [TEXT[:7], memoryview(TEXT)[7:200_000]], [b"tiny"]])
def test_what_was_packed_comes_back(level, blobs):
    size = sum(map(len, blobs))
    packed = Packer().pack(HEADS, blobs, size, level)
    assert restored(packed, len(HEADS), size) == (HEADS, b"".join(blobs))
    if level == 0:
        assert packed.flags == 0
        assert packed.blobs is blobs  # not even touched
    elif blobs == [TEXT]:
        assert packed.blob_wire < size / 2
    elif blobs == [NOISE]:
        assert not packed.flags & ZSTD_BLOB


def test_after_a_miss_the_next_blobs_are_not_even_probed():
    packer = Packer()
    packer.pack(b"h", [NOISE], len(NOISE), 1)
    flags = [packer.pack(b"h", [TEXT], len(TEXT), 1).flags for _ in range(PAUSE + 1)]
    assert flags == [0] * PAUSE + [ZSTD_BLOB]


def bombs():
    full = zstandard.ZstdCompressor().compress(bytes(1 << 20))
    yield "claims more than announced", full, 1000
    yield "claims less than announced", full, 2 << 20
    yield "cut off", full[:-3], 1 << 20
    yield "something behind it", full + b"x", 1 << 20
    yield "second frame behind it", full + full, 1 << 20
    yield "no frame", b"0123456789", 10
    yield "empty", b"", 10
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 20))
    yield "does not say its size", unsized, 1 << 20


@pytest.mark.parametrize(("why", "data", "size"), list(bombs()))
def test_dishonest_frames_are_refused(why, data, size):
    with pytest.raises(WireError):
        Unpacker().unpack(data, size)
    if why not in ("something behind it", "second frame behind it"):
        with pytest.raises(WireError):
            Unpacker().unpack_into(data, memoryview(bytearray(size)))


@given(st.binary(max_size=100), st.integers(1, 1000))
def test_any_bytes_are_a_wire_error_or_of_the_right_size(data, size):
    try:
        assert len(Unpacker().unpack(b"\x28\xb5\x2f\xfd" + data, size)) == size
    except WireError:
        pass
    try:
        Unpacker().unpack_into(b"\x28\xb5\x2f\xfd" + data, memoryview(bytearray(size)))
    except WireError:
        pass


def driven(compression, blocked, limited=0.0, times=3):
    for _ in range(times):
        compression._since -= 0.5  # half a second passes
        compression.note(50 << 20, 50 << 20, 0, 0.0, blocked)
        compression.decide(limited)
    return compression.level


def test_compression_follows_the_link_but_not_a_slow_receiver():
    assert driven(Compression(1, lambda: 2.0), blocked=0.5) < 0
    assert driven(Compression(1, lambda: 2.0), blocked=0.5, limited=0.5) == 0
    assert driven(Compression(1, lambda: 0.0), blocked=0.5) == 0
    assert driven(Compression(1, lambda: 2.0, enabled=False), blocked=0.5) == 0


def test_idle_cores_are_counted():
    idle = IdleCores()
    assert 0.0 <= idle() <= (os.cpu_count() or 1)
