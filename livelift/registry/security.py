"""Security cells (sk): every descriptor once, with the number of its keys, in a ring that the root's one heads."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Final

from livelift.registry.allocator import Allocator

CELL: Final = struct.Struct("<2sHIIII")
KEY_ALL_ACCESS: Final = 0xF003F
KEY_READ: Final = 0x20019


def _sid(*parts: int) -> bytes:
    return struct.pack(f"<BB6s{len(parts)}I", 1, len(parts), (5).to_bytes(6, "big"), *parts)


def _allow(sid: bytes, access: int) -> bytes:
    """ACCESS_ALLOWED_ACE, inherited by subkeys ([MS-DTYP] 2.4.4.2)."""
    return struct.pack("<BBHI", 0, 2, 8 + len(sid), access) + sid


def _default() -> bytes:
    system, administrators, users = _sid(18), _sid(32, 544), _sid(32, 545)
    aces = _allow(administrators, KEY_ALL_ACCESS) + _allow(system, KEY_ALL_ACCESS) + _allow(users, KEY_READ)
    acl = struct.pack("<BBHHH", 2, 0, 8 + len(aces), 3, 0) + aces
    owner = 20
    group = owner + len(administrators)
    dacl = group + len(system)
    return struct.pack("<BBHIIII", 1, 0, 0x8004, owner, group, 0, dacl) + administrators + system + acl


DEFAULT: Final = _default()
"""For a root without a descriptor, as the roots of Windows' hives have it: administrators own it and may do all, as the
system may; users read ([MS-DTYP] 2.4.6, self-relative)."""


def put_securities(uses: Counter[bytes], into: Allocator) -> dict[bytes, int]:
    """Where each descriptor is. ``uses``: how many keys have it, the root's one first."""
    places = {descriptor: into.cell(20 + len(descriptor)) for descriptor in uses}
    ring = list(places.values())
    for index, (descriptor, offset) in enumerate(places.items()):
        after, before = ring[(index + 1) % len(ring)], ring[index - 1]
        CELL.pack_into(into.bins, offset + 4, b"sk", 0, after, before, uses[descriptor], len(descriptor))
        into.bins[offset + 24 : offset + 24 + len(descriptor)] = descriptor
    return places
