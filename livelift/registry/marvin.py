"""Marvin32 with 64 bits of result: the checksum of log entries. Source: Niels Ferguson's function as published with
.NET (Marvin.cs). The regf specification prints the kernel's seed with its bytes the other way round; this order is the
one under which the entries of real logs (Windows 10 1709) have their hashes."""

from __future__ import annotations

import struct
from typing import Final

SEED: Final = 0x82EF4D887A4E55C5
_MASK: Final = 0xFFFFFFFF


def marvin(data: bytes | memoryview, seed: int = SEED) -> int:
    """Some 4 MB a second: logs are small, and a damaged page in a hive is worse than a second."""
    whole = len(data) & ~3
    tail = int.from_bytes(bytes(data[whole:]) + b"\x80", "little")
    a, b = seed & _MASK, seed >> 32
    for word in (*struct.unpack_from(f"<{whole >> 2}I", data), tail, 0):
        a = (a + word) & _MASK
        b ^= a
        a = ((a << 20 | a >> 12) + b) & _MASK
        b = (b << 9 | b >> 23) & _MASK ^ a
        a = ((a << 27 | a >> 5) + b) & _MASK
        b = (b << 19 | b >> 13) & _MASK
    return b << 32 | a
