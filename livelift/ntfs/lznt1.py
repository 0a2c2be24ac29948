"""LZNT1, the compression of NTFS: MS-XCA 2.5. Pure, bounded by the size that the caller expects."""

from __future__ import annotations

import struct
from typing import Final

from livelift.ntfs.errors import NtfsError

CHUNK: Final = 4096


def decompress(data: bytes, limit: int) -> bytes:
    """At most ``limit`` bytes; shorter if the data ends earlier (what is missing of a unit is zeros). NtfsError:
    damaged."""
    out = bytearray()
    at = 0
    while at + 2 <= len(data) and len(out) < limit:
        (header,) = struct.unpack_from("<H", data, at)
        if not header:
            break
        at += 2
        size = (header & 0xFFF) + 1
        chunk = data[at : at + size]
        if len(chunk) < size:
            raise NtfsError("a compressed chunk is cut off")
        at += size
        out += _chunk(chunk) if header & 0x8000 else chunk
        if len(out) % CHUNK and at + 2 <= len(data) and data[at : at + 2] != b"\0\0":
            out += bytes(-len(out) % CHUNK)  # a chunk stands for 4 KiB, whatever it holds
    return bytes(out[:limit])


def _chunk(data: bytes) -> bytearray:
    out = bytearray()
    at = 0
    while at < len(data):
        flags = data[at]
        at += 1
        for bit in range(8):
            if at >= len(data):
                break
            if not flags >> bit & 1:
                out.append(data[at])
                at += 1
            else:
                if at + 2 > len(data):
                    raise NtfsError("a back reference is cut off")
                _copy(out, data[at] | data[at + 1] << 8)
                at += 2
            if len(out) > CHUNK:
                raise NtfsError("a compressed chunk holds more than 4096 bytes")
    return out


def _copy(out: bytearray, token: int) -> None:
    """The split between distance and length moves with the position in the chunk (MS-XCA 2.5.1.2)."""
    if not out:
        raise NtfsError("a back reference before the first byte")
    distance_bits = max((len(out) - 1).bit_length(), 4)
    shift = 16 - distance_bits
    distance = (token >> shift) + 1
    length = (token & (1 << shift) - 1) + 3
    if distance > len(out):
        raise NtfsError("a back reference leads before the chunk")
    if len(out) + length > CHUNK:
        raise NtfsError("a compressed chunk holds more than 4096 bytes")
    if distance >= length:
        start = len(out) - distance
        out += out[start : start + length]
    else:
        piece = out[-distance:]
        out += (piece * (length // distance + 1))[:length]
