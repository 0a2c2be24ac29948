"""How large the ring is."""

import pytest

from livelift.capture.ebpf.stream import room

MIB, GIB = 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("memory", "ring"),
    [
        (512 * MIB, 32 * MIB),
        (4 * GIB, 32 * MIB),
        (8 * GIB - 1, 32 * MIB),
        (8 * GIB, 64 * MIB),
        (15 * GIB, 64 * MIB),
        (24 * GIB, 128 * MIB),
        (2048 * GIB, 128 * MIB),
    ],
)
def test_a_hundredth_of_the_memory_and_a_power_of_two(memory: int, ring: int):
    assert room(memory) == ring
