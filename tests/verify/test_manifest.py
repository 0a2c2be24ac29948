from __future__ import annotations

import stat

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from livelift.errors import WireError
from livelift.model.entry import Attributes
from livelift.platform.linux import inode_flags
from livelift.verify.manifest import (
    SETTABLE_FLAGS,
    ManifestEntry,
    TreeDigest,
    decode_entry,
    directory_manifest,
    encode_entry,
    entry_of,
    join,
    meta_of,
    row_of,
)


def attributes(mode: int, **more: object) -> Attributes:
    values: dict[str, object] = {"uid": 1, "gid": 2, "size": 4096, "mtime": -5, "atime": 6, "ctime": 7, **more}
    return Attributes(mode, **values)  # type: ignore[arg-type]


def test_what_cannot_be_compared_is_left_out() -> None:
    directory = entry_of(b"d", attributes(stat.S_IFDIR | 0o755, nlink=9, rdev=77))
    assert (directory.size, directory.rdev, directory.mtime) == (0, 0, -5)
    assert directory == entry_of(b"d", attributes(stat.S_IFDIR | 0o755, nlink=3, size=1, atime=0, ctime=0))
    link = entry_of(b"l", attributes(stat.S_IFLNK | 0o700, target=b"x", flags=0x10, project=3))
    assert (link.mode, link.target, link.flags, link.project) == (stat.S_IFLNK, b"x", 0, 0)
    assert entry_of(b"c", attributes(stat.S_IFCHR | 0o600, rdev=259)).rdev == 259


def test_flags_are_those_that_chattr_can_set_but_for_the_one_that_btrfs_sets_itself() -> None:
    assert SETTABLE_FLAGS == inode_flags.SETTABLE & ~0x400
    assert entry_of(b"f", attributes(stat.S_IFREG, flags=0x80010)).flags == 0x10


def test_long_xattrs_travel_as_digests_that_no_short_value_can_imitate() -> None:
    long = b"v" * 65
    digest = blake3(long).digest()
    one = entry_of(b"f", attributes(stat.S_IFREG, xattrs=((b"user.x", long),)))
    other = entry_of(b"f", attributes(stat.S_IFREG, xattrs=((b"user.x", digest),)))
    assert one.xattrs == ((b"user.x", 65, digest),)
    assert one != other and encode_entry(one) != encode_entry(other)


entries = st.builds(
    ManifestEntry,
    name=st.binary(max_size=20),
    mode=st.integers(0, 0o177777),
    uid=st.integers(0, 2**32 - 1),
    size=st.integers(0, 2**63),
    mtime=st.integers(-(2**63), 2**63),
    target=st.binary(max_size=10),
    xattrs=st.lists(st.tuples(st.binary(max_size=9), st.integers(0, 99), st.binary(max_size=9)), max_size=3).map(tuple),
    content=st.binary(max_size=32),
    trouble=st.text("abc", max_size=5),
)


@given(entries, entries)
def test_one_entry_has_one_row_and_one_row_one_entry(one: ManifestEntry, other: ManifestEntry) -> None:
    assert decode_entry(encode_entry(one)) == one
    assert (encode_entry(one) == encode_entry(other)) == (one == other)


@given(entries, entries)
def test_a_row_is_its_parts(one: ManifestEntry, other: ManifestEntry) -> None:
    one = msgspec.structs.replace(one, trouble="")
    meta = meta_of(encode_entry(one), one.name, one.content, one.layout)
    assert row_of(one.name, meta, one.content, one.layout) == encode_entry(one)
    renamed = msgspec.structs.replace(one, name=other.name, content=other.content, layout=other.layout)
    assert row_of(other.name, meta, other.content, other.layout) == encode_entry(renamed)


@given(entries, st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_row_is_refused_or_is_another_entry(entry: ManifestEntry, where: int, flip: int) -> None:
    row = bytearray(encode_entry(entry))
    row[where % len(row)] ^= flip
    try:
        decoded = decode_entry(bytes(row))
    except WireError:
        return
    assert encode_entry(decoded) == bytes(row) or decoded != entry


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    try:
        decode_entry(noise)
    except WireError:
        pass  # any other exception fails the test


@pytest.mark.parametrize("cut", [0, 1, 5])
def test_a_cut_or_extended_row_is_refused(cut: int) -> None:
    row = encode_entry(ManifestEntry(b"name", 0o100644))
    with pytest.raises(WireError):
        decode_entry(row[:cut])
    with pytest.raises(WireError):
        decode_entry(row + b"\xc0")


def test_directory_digest_depends_on_every_entry_but_not_on_their_order() -> None:
    a, b = ManifestEntry(b"a", 0o100644), ManifestEntry(b"b", 0o100644)
    one = directory_manifest(0, b"d", [b, a])
    assert one.digest == directory_manifest(3, b"e", [a, b]).digest
    assert one.entries() == [a, b]
    assert one.digest != directory_manifest(0, b"d", [a]).digest
    assert one.digest != directory_manifest(0, b"d", [a, ManifestEntry(b"b", 0o100645)]).digest
    assert directory_manifest(0, b"d", [ManifestEntry(b"a", 0, trouble="EIO")]).troubled


def test_tree_digest_tells_maps_paths_and_digests_apart() -> None:
    seen = set()
    for parts in ([(0, b"a", b"x")], [(1, b"a", b"x")], [(0, b"ax", b"")], [(0, b"a", b"x"), (0, b"b", b"y")], []):
        tree = TreeDigest()
        for part in parts:
            tree.add(*part)
        seen.add(tree.value())
    assert len(seen) == 5


def test_join() -> None:
    assert [join(b"", b""), join(b"", b"a"), join(b"a", b"b"), join(b"a", b"")] == [b"", b"a", b"a/b", b"a"]
