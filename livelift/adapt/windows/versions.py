"""The file version of a driver: VS_FIXEDFILEINFO in its resources."""

from __future__ import annotations

import struct

SIGNATURE = b"\xbd\x04\xef\xfe"
"""dwSignature 0xFEEF04BD, then dwStrucVersion 0x00010000 (verrsrc.h); the resource is aligned to 32 bits."""


def file_version(data: bytes) -> str:
    """ "10.0.17763.1", or "" for a file that has none. The structure is looked for by its signature: the resource
    directory of a signed driver is not compressed."""
    at = data.find(SIGNATURE)
    while at >= 0:
        if at % 4 == 0 and at + 16 <= len(data):
            structure, high, low = struct.unpack_from("<III", data, at + 4)
            if structure == 0x00010000:
                return f"{high >> 16}.{high & 0xFFFF}.{low >> 16}.{low & 0xFFFF}"
        at = data.find(SIGNATURE, at + 1)
    return ""
