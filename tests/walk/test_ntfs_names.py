"""What belongs to an NTFS object, as extended attributes."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from livelift.platform.windows.information import ExtendedAttribute, Information, parse_eas
from livelift.walk.ntfs_names import NTFS, OTHER, Extras, pack_eas, to_xattrs, too_large

FOUND = Information(133_000_000_000_000_000, 2, 3, 4, 0x1021 | 0x1000, 0, 0, 1, False, False, 5, 0)


def test_the_names_are_those_of_ntfs_3g() -> None:
    extras = Extras(b"sd", b"link", b"SHORT~1", b"id", (), ((b"Zone.Identifier", b"zone"),))
    assert dict(to_xattrs(FOUND, extras, NTFS)) == {
        b"system.ntfs_attrib_be": struct.pack(">I", 0x21),
        b"system.ntfs_crtime_be": struct.pack(">q", 133_000_000_000_000_000),
        b"system.ntfs_acl": b"sd",
        b"system.ntfs_reparse_data": b"link",
        b"system.ntfs_dos_name": b"SHORT~1",
        b"system.ntfs_object_id": b"id",
        b"user.Zone.Identifier": b"zone",
    }


def test_what_an_object_has_not_is_not_there_and_the_pairs_are_sorted() -> None:
    pairs = to_xattrs(FOUND, Extras(streams=((b"b", b"1"), (b"a", b"2"))))
    assert [name for name, _ in pairs] == sorted(name for name, _ in pairs)
    assert {name.partition(b".")[0] + b"." for name, _ in pairs} == {OTHER, b"user."}


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.binary(max_size=50), st.sampled_from([0, 0x80]))))
def test_extended_attributes_come_back(values: list[tuple[bytes, bytes, int]]) -> None:
    eas = tuple(ExtendedAttribute(*value) for value in values)
    packed = pack_eas(eas)
    assert parse_eas(packed) == list(eas)


def test_what_cannot_travel_is_said() -> None:
    assert too_large(b"s", 65536) == ""
    assert "65537" in too_large(b"s", 65537)
    assert "255" not in too_large(b"x" * 250, 1)
    assert "250" in too_large(b"x" * 251, 1)
