from __future__ import annotations

import stat

import pytest

from livelift.errors import WireError
from livelift.verify.compare import (
    UNREADABLE,
    Difference,
    Intended,
    Prefixes,
    compare_directories,
    compare_rows,
    compare_trees,
    describe,
    show,
    split_intended,
    still_different,
)
from livelift.verify.manifest import (
    CHANGING,
    LISTING,
    DirectoryManifest,
    ManifestEntry,
    directory_manifest,
    encode_entry,
)

FILE = ManifestEntry(b"f", stat.S_IFREG | 0o644, 1, 2, 10, 1_000, content=b"c" * 32)
DIRECTORY = ManifestEntry(b"d", stat.S_IFDIR | 0o755)


def with_(entry: ManifestEntry, **values: object) -> ManifestEntry:
    return ManifestEntry(*(values.get(field, getattr(entry, field)) for field in entry.__struct_fields__))  # type: ignore[arg-type]


def compare(source: list[ManifestEntry], target: list[ManifestEntry]) -> list[Difference]:
    return compare_directories(directory_manifest(2, b"dir", source), directory_manifest(2, b"dir", target))


@pytest.mark.parametrize(
    ("change", "field", "source", "target"),
    [
        ({"mode": stat.S_IFREG | 0o4755}, "mode", "0644", "4755"),
        ({"uid": 5}, "uid", "1", "5"),
        ({"gid": 5}, "gid", "2", "5"),
        ({"size": 11}, "size", "10", "11"),
        ({"mtime": -1}, "mtime", "1000", "-1"),
        ({"rdev": 0x10305}, "device", "0:0", "259:5"),
        ({"flags": 0x10 | 0x800000}, "flags", "none", "iC"),
        ({"project": 4}, "project", "0", "4"),
        ({"target": b"x\n"}, "link target", "", "x\\n"),
        ({"xattrs": ((b"user.a", 2, b"v\0"),)}, "xattr user.a", "absent", "v"),
        ({"xattrs": ((b"user.a", 1, b"\xff"),)}, "xattr user.a", "absent", "0xff"),
        ({"xattrs": ((b"user.a", 99, b"\x01" * 32),)}, "xattr user.a", "absent", "99 bytes, BLAKE3 " + "01" * 32),
        ({"content": b"d" * 32}, "content", "63" * 32, "64" * 32),
        ({"content": b""}, "content", "63" * 32, "not read"),
        ({"layout": b"l" * 16}, "layout", "no holes", "6c" * 16),
        ({"trouble": "EIO"}, "unreadable", "", "EIO"),
        ({"mode": stat.S_IFIFO | 0o644}, "type", "file of 10 bytes", "fifo"),
    ],
)
def test_every_field(change: dict[str, object], field: str, source: str, target: str) -> None:
    other = with_(FILE, **change)
    assert compare([FILE], [other]) == [Difference(2, b"dir/f", field, source, target)]
    assert compare([other], [FILE]) == [Difference(2, b"dir/f", field, target, source)]


def test_only_the_layout_fails_nothing() -> None:
    (difference,) = compare([FILE], [with_(FILE, layout=b"l" * 16)])
    assert not difference.fails
    assert Difference(0, b"", "content").fails


def test_equal_troubles_are_no_equality() -> None:
    bad = with_(FILE, trouble="EIO: Input/output error")
    assert compare([bad, DIRECTORY], [bad, DIRECTORY]) == [
        Difference(2, b"dir/f", "unreadable", "EIO: Input/output error", "EIO: Input/output error")
    ]


def test_a_directory_that_could_not_be_listed_is_one_difference() -> None:
    unlisted = [ManifestEntry(LISTING, stat.S_IFDIR, trouble="EIO")]
    assert compare([FILE, DIRECTORY], unlisted) == [Difference(2, b"dir", "unreadable", "", "EIO")]
    assert compare(unlisted, [FILE, DIRECTORY]) == [Difference(2, b"dir", "unreadable", "EIO", "")]


def test_malformed_rows_of_the_peer() -> None:
    with pytest.raises(WireError):
        compare_rows(0, b"", [encode_entry(FILE)], [b"noise"])


def test_trees_with_a_missing_and_an_extra_directory() -> None:
    below = directory_manifest(0, b"d", [FILE])
    deeper = directory_manifest(0, b"d/e", [])
    full = [directory_manifest(0, b"", [DIRECTORY]), below, deeper]
    empty = [directory_manifest(0, b"", [])]

    def lookup_in(manifests: list[DirectoryManifest]) -> dict[tuple[int, bytes], DirectoryManifest]:
        return {(manifest.map, manifest.path): manifest for manifest in manifests}

    def trees(source: list[DirectoryManifest], target: list[DirectoryManifest]) -> list[Difference]:
        known = lookup_in(target)
        return list(compare_trees(source, lambda map_index, path: known.get((map_index, path))))

    assert trees(full, full) == []
    assert trees(full, empty) == [Difference(0, b"d", "missing on target", "directory")]
    assert trees(empty, full) == [Difference(0, b"d", "extra on target", "", "directory")]
    assert trees(full, []) == [Difference(0, b"", "missing on target", "directory")]


def test_intended_differences_are_taken_out_and_counted() -> None:
    found = [
        Difference(0, b"etc/fstab", "content"),
        Difference(0, b"etc/fstab", "mtime"),
        Difference(1, b"etc/fstab", "mtime"),
        Difference(0, b"boot/grub/x/y", "missing on target"),
        Difference(0, b"home/a", "xattr user.x"),
        Difference(0, b"home/b", "content"),
    ]
    intended = [
        Intended(b"etc/fstab", "the target's own disks", map=0),
        Intended(b"boot/*", "the target's own boot loader", ("missing on target",)),
        Intended(b"home/*", "not wanted", ("xattr",)),
        Intended(b"nothing", "never seen"),
    ]
    left, hits = split_intended(found, intended)
    assert left == [found[2], found[5]]
    assert [count for _, count in hits] == [2, 1, 1, 0]


def test_prefixes_cover_whole_components() -> None:
    prefixes = Prefixes([(0, b"a/b")])
    assert prefixes.covers(0, b"a/b") and prefixes.covers(0, b"a/b/c/d")
    assert not prefixes.covers(0, b"a/bc") and not prefixes.covers(0, b"a") and not prefixes.covers(1, b"a/b")
    prefixes.add(1, b"")
    assert prefixes.covers(1, b"anything")


def test_bytes_for_people_hold_nothing_that_a_terminal_obeys() -> None:
    assert show(b"caf\xc3\xa9 \xff \x1b[2J\n\xe2\x80\xae") == "café \\xff \\x1b[2J\\n\\u202e"
    assert describe(with_(FILE, mode=0)) == "object of unknown type"


def test_of_a_system_that_is_written_to_only_what_stands_still_and_differs_counts():
    stale = Difference(0, b"stale", "size", "5", "4")
    hot = Difference(0, b"hot", "size", "100", "90")
    later = [stale, Difference(0, b"hot", "size", "110", "100"), Difference(0, b"new", "size", "1", "")]
    first = still_different(None, [stale, hot, Difference(0, b"wal", UNREADABLE, CHANGING, "")])
    assert first == [stale, hot]
    assert still_different(first, later) == [stale]
    assert still_different(first, []) == []
    torn = Difference(0, b"torn", UNREADABLE, "Input/output error", "")
    assert still_different([torn], [torn]) == [torn]
