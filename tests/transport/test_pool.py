from __future__ import annotations

import ctypes

import pytest

from livelift.transport.pool import Pool


@pytest.mark.parametrize("size", [1, 4096, 65536, 65537, 1 << 20, 8 << 20])
def test_aligned_and_large_enough(size):
    buffer = Pool(0).take(size)
    assert len(buffer) >= size
    assert ctypes.addressof(ctypes.c_char.from_buffer(buffer)) % 4096 == 0


def test_used_again_up_to_the_limit():
    pool = Pool(128 << 10)
    buffers = [pool.take(1000) for _ in range(3)]
    for buffer in buffers:
        pool.give(buffer)
    again = [pool.take(60_000) for _ in range(3)]
    assert sum(any(one is other for other in buffers) for one in again) == 2
