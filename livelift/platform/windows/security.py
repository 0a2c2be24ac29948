"""Self-relative security descriptors: the owner, and to whom the DACL gives rights (MS-DTYP 2.4.6). Pure, bounded."""

from __future__ import annotations

import struct
from typing import Final

PRIVATE: Final = "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;OW)"
"""SDDL: full access for SYSTEM, administrators and the owner, nothing inherited from above."""

_DACL_PRESENT: Final = 0x4
_ALLOWED: Final = frozenset({0, 5, 9, 11})
"""ACCESS_ALLOWED_ACE and its object and callback forms."""

SYSTEM: Final = bytes.fromhex("010100000000000512000000")
ADMINISTRATORS: Final = bytes.fromhex("01020000000000052000000020020000")
OWNER_RIGHTS: Final = bytes.fromhex("010100000000000304000000")
CREATOR_OWNER: Final = bytes.fromhex("010100000000000300000000")


def well_known() -> frozenset[bytes]:
    """SIDs of S-1-5-18, S-1-5-32-544, S-1-3-4 and S-1-3-0."""
    return frozenset({SYSTEM, ADMINISTRATORS, OWNER_RIGHTS, CREATOR_OWNER})


def owner_of(raw: bytes) -> bytes:
    """The owner's SID, empty if there is none. ValueError: damaged."""
    at = _header(raw)[1]
    return _sid(raw, at) if at else b""


def dacl_trustees(raw: bytes) -> frozenset[bytes] | None:
    """SIDs that the DACL gives anything; None if there is no DACL, which gives everything to everybody."""
    control, _, _, _, at = _header(raw)
    if not control & _DACL_PRESENT or not at:
        return None
    if at + 8 > len(raw):
        raise ValueError("the DACL lies outside of the descriptor")
    size, count = struct.unpack_from("<HH", raw, at + 2)
    end = at + size
    if end > len(raw):
        raise ValueError("the DACL reaches beyond the descriptor")
    found = set()
    at += 8
    for _ in range(count):
        if at + 8 > end:
            raise ValueError("an ACE reaches beyond its list")
        kind, _, length = struct.unpack_from("<BBH", raw, at)
        if length < 8 or at + length > end:
            raise ValueError("an ACE has an impossible length")
        if kind in _ALLOWED:
            sid_at = at + 8
            if kind in (5, 11):  # object ACEs: flags, then up to two GUIDs
                (flags,) = struct.unpack_from("<I", raw, at + 8) if length >= 12 else (0,)
                sid_at = at + 12 + 16 * ((flags & 1) + (flags >> 1 & 1))
            found.add(_sid(raw[: at + length], sid_at))
        at += length
    return frozenset(found)


def _header(raw: bytes) -> tuple[int, int, int, int, int]:
    if len(raw) < 20 or raw[0] != 1:
        raise ValueError("not a security descriptor")
    control, owner, group, sacl, dacl = struct.unpack_from("<HIIII", raw, 2)
    return control, owner, group, sacl, dacl


def _sid(raw: bytes, at: int) -> bytes:
    if at + 8 > len(raw) or raw[at] != 1 or raw[at + 1] > 15:
        raise ValueError("not a SID")
    length = 8 + 4 * raw[at + 1]
    if at + length > len(raw):
        raise ValueError("a SID reaches beyond the descriptor")
    return raw[at : at + length]
