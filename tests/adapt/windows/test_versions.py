"""File versions of drivers."""

from __future__ import annotations

import struct

from livelift.adapt.windows.versions import file_version

FIXED = struct.pack("<IIII", 0xFEEF04BD, 0x00010000, 10 << 16, 17763 << 16 | 1)


def test_the_version_is_found_behind_what_looks_like_one() -> None:
    assert file_version(b"MZ" + bytes(62) + FIXED) == "10.0.17763.1"
    assert file_version(FIXED[:4] + bytes(12) + FIXED) == "10.0.17763.1"
    assert file_version(b"x" + FIXED) == "", "not aligned"


def test_none() -> None:
    assert file_version(b"") == file_version(FIXED[:15]) == file_version(b"MZ") == ""
