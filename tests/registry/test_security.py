from __future__ import annotations

import struct

from livelift.registry.security import DEFAULT, KEY_ALL_ACCESS, KEY_READ


def test_the_usual_descriptor_is_self_relative_and_complete() -> None:
    """Taken apart by [MS-DTYP] 2.4.6, 2.4.5, 2.4.4.2 and 2.4.2.2."""
    revision, _, control, owner, group, sacl, dacl = struct.unpack_from("<BBHIIII", DEFAULT)
    assert (revision, control, sacl) == (1, 0x8004, 0)
    assert sid(owner) == ("S-1-5-32-544", 16) and sid(group) == ("S-1-5-18", 12)
    _, _, size, count, _ = struct.unpack_from("<BBHHH", DEFAULT, dacl)
    assert dacl + size == len(DEFAULT)
    at, allowed = dacl + 8, {}
    for _ in range(count):
        kind, flags, length, access = struct.unpack_from("<BBHI", DEFAULT, at)
        assert (kind, flags) == (0, 2), "allowed, inherited by subkeys"
        text, used = sid(at + 8)
        assert used + 8 == length
        allowed[text] = access
        at += length
    assert at == len(DEFAULT)
    assert allowed == {"S-1-5-32-544": KEY_ALL_ACCESS, "S-1-5-18": KEY_ALL_ACCESS, "S-1-5-32-545": KEY_READ}


def sid(at: int) -> tuple[str, int]:
    revision, count = DEFAULT[at], DEFAULT[at + 1]
    authority = int.from_bytes(DEFAULT[at + 2 : at + 8], "big")
    parts = struct.unpack_from(f"<{count}I", DEFAULT, at + 8)
    return "-".join(map(str, ("S", revision, authority, *parts))), 8 + 4 * count
