"""Compares manifests and says in words that an operator can act on what is different. Pure."""

from __future__ import annotations

import fnmatch
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from livelift.verify.manifest import CHANGING, LISTING, DirectoryManifest, ManifestEntry, decode_entry, join

MISSING: Final = "missing on target"
EXTRA: Final = "extra on target"
UNREADABLE: Final = "unreadable"
LINK: Final = "hard link"
LAYOUT: Final = "layout"

NOTES: Final = frozenset({LAYOUT})
"""Fields that are reported but fail nothing: where the holes are follows the file system's block size and its own
preallocation."""


class Difference(msgspec.Struct, frozen=True, array_like=True, order=True):
    """One thing that is not the same. ``path`` below the root of map ``map``; ``source`` and ``target``: the values,
    for people.

    A directory that is missing or extra is one difference, without what is in it.
    """

    map: int
    path: bytes
    field: str
    source: str = ""
    target: str = ""

    @property
    def fails(self) -> bool:
        return self.field not in NOTES


class Intended(msgspec.Struct, frozen=True, array_like=True):
    """A difference that is meant to be, and why. ``path``: fnmatch pattern below the root ("*" also matches slashes).

    ``fields`` empty: all of them. ``map`` -1: every map.
    """

    path: bytes
    reason: str
    fields: tuple[str, ...] = ()
    map: int = -1

    def covers(self, difference: Difference) -> bool:
        return (
            self.map in (-1, difference.map)
            and (not self.fields or not {difference.field, difference.field.partition(" ")[0]}.isdisjoint(self.fields))
            and fnmatch.fnmatchcase(difference.path, self.path)
        )


def split_intended(
    differences: Iterable[Difference], intended: Sequence[Intended]
) -> tuple[list[Difference], list[tuple[Intended, int]]]:
    """The differences that nobody intended, and how many each intention covered (the first that fits counts)."""
    left: list[Difference] = []
    hits = [0] * len(intended)
    for difference in differences:
        for index, intention in enumerate(intended):
            if intention.covers(difference):
                hits[index] += 1
                break
        else:
            left.append(difference)
    return left, list(zip(intended, hits, strict=True))


def still_different(before: Iterable[Difference] | None, now: Iterable[Difference]) -> list[Difference]:
    """Of two comparisons of a system that is written to, the later one's differences that count: those that were there
    ``before`` (None: this is the first), with the same value on the source. What has changed meanwhile is on its way,
    and a file that is written to all the time is never the same twice; behind the fence nothing changes."""
    values = None if before is None else {(d.map, d.path, d.field): d.source for d in before}
    return [
        d
        for d in now
        if d.fails
        and not (d.field == UNREADABLE and d.source == CHANGING)
        and (values is None or values.get((d.map, d.path, d.field)) == d.source)
    ]


def compare_directories(source: DirectoryManifest, target: DirectoryManifest) -> list[Difference]:
    """Differences between two manifests of one directory. Both must be whole."""
    return compare_rows(source.map, source.path, source.rows, target.rows)


def compare_rows(
    map_index: int, directory: bytes, source: Sequence[bytes], target: Sequence[bytes]
) -> list[Difference]:
    """The same for rows. Equal rows are not even decoded. Raises WireError for a malformed row."""
    # A row with a trouble must come up even if the other side has the very same.
    alike = {row for row in set(source) & set(target) if not _has_trouble(row)}
    ours = {entry.name: entry for row in source if row not in alike for entry in (decode_entry(row),)}
    theirs = {entry.name: entry for row in target if row not in alike for entry in (decode_entry(row),)}
    if LISTING in ours or LISTING in theirs:
        return [Difference(map_index, directory, UNREADABLE, *(_trouble(side.get(LISTING)) for side in (ours, theirs)))]
    found: list[Difference] = []
    for name in sorted(ours.keys() | theirs.keys()):
        path = join(directory, name)
        one, other = ours.get(name), theirs.get(name)
        if one is None or other is None:
            present = one or other
            assert present is not None
            text = describe(present)
            found.append(Difference(map_index, path, *((EXTRA, "", text) if one is None else (MISSING, text, ""))))
        else:
            found.extend(Difference(map_index, path, *values) for values in _fields(one, other))
    return found


def _has_trouble(row: bytes) -> bool:
    """A row ends with its trouble: with 0xa0, the empty string of MessagePack, when there is none (troubles are
    ASCII)."""
    return not row.endswith(b"\xa0")


def compare_trees(
    source: Iterable[DirectoryManifest], lookup: Callable[[int, bytes], DirectoryManifest | None]
) -> Iterator[Difference]:
    """Directory by directory, where both sides are at hand. What exists only on the target shows up in its parent.

    ``source`` comes parents first; what is below a directory that is missing on the target is not listed.
    """
    gone = Prefixes()
    for manifest in source:
        if gone.covers(manifest.map, manifest.path):
            continue
        other = lookup(manifest.map, manifest.path)
        if other is None:
            yield Difference(manifest.map, manifest.path, MISSING, "directory")
            gone.add(manifest.map, manifest.path)
        elif manifest.troubled or manifest.digest != other.digest:
            for difference in compare_directories(manifest, other):
                if difference.field in (MISSING, "type"):
                    gone.add(difference.map, difference.path)
                yield difference


class Prefixes:
    """A set of paths; ``covers`` tells whether a path is one of them or below one."""

    def __init__(self, paths: Iterable[tuple[int, bytes]] = ()) -> None:
        self._paths = set(paths)

    def add(self, map_index: int, path: bytes) -> None:
        self._paths.add((map_index, path))

    def covers(self, map_index: int, path: bytes) -> bool:
        if not self._paths:
            return False
        while (map_index, path) not in self._paths:
            if not path:
                return False
            path = path.rpartition(b"/")[0]
        return True


def _trouble(entry: ManifestEntry | None) -> str:
    return entry.trouble if entry else ""


def _fields(one: ManifestEntry, other: ManifestEntry) -> Iterator[tuple[str, str, str]]:
    if one.trouble or other.trouble:
        yield UNREADABLE, one.trouble, other.trouble
        return
    if stat.S_IFMT(one.mode) != stat.S_IFMT(other.mode):
        yield "type", describe(one), describe(other)
        return
    if one.mode != other.mode:
        yield "mode", f"{one.mode & 0o7777:04o}", f"{other.mode & 0o7777:04o}"
    for field in ("uid", "gid", "size", "mtime", "project"):
        mine, its = getattr(one, field), getattr(other, field)
        if mine != its:
            yield field, str(mine), str(its)
    if one.rdev != other.rdev:
        yield "device", _device(one.rdev), _device(other.rdev)
    if one.flags != other.flags:
        yield "flags", _letters(one.flags), _letters(other.flags)
    if one.target != other.target:
        yield "link target", show(one.target), show(other.target)
    if one.xattrs != other.xattrs:
        yield from _xattrs(one, other)
    if one.size == other.size and one.content != other.content:
        yield "content", one.content.hex() or "not read", other.content.hex() or "not read"
    if one.layout != other.layout and one.content == other.content:
        yield LAYOUT, one.layout.hex() or "no holes", other.layout.hex() or "no holes"


def _xattrs(one: ManifestEntry, other: ManifestEntry) -> Iterator[tuple[str, str, str]]:
    mine = {key: (length, value) for key, length, value in one.xattrs}
    its = {key: (length, value) for key, length, value in other.xattrs}
    for key in sorted(mine.keys() | its.keys()):
        if mine.get(key) != its.get(key):
            yield f"xattr {show(key)}", _value(mine.get(key)), _value(its.get(key))


def _value(value: tuple[int, bytes] | None) -> str:
    if value is None:
        return "absent"
    length, data = value
    if length != len(data):
        return f"{length} bytes, BLAKE3 {data.hex()}"
    text = data.rstrip(b"\0")
    return show(text) if text.isascii() and text.decode("ascii").isprintable() else "0x" + data.hex()


def show(raw: bytes) -> str:
    """Bytes for people: UTF-8 where it is, the rest (and what a terminal would obey) as backslash escapes."""
    text = raw.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def describe(entry: ManifestEntry) -> str:
    """ "file of 12 bytes", "directory", "symlink to x"."""
    kind = _TYPES.get(stat.S_IFMT(entry.mode), "object of unknown type")
    if kind == "file":
        return f"file of {entry.size} bytes"
    return f"symlink to {show(entry.target)}" if kind == "symlink" else kind


_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def _device(rdev: int) -> str:
    """As makedev(3) of Linux packs it."""
    major = rdev >> 8 & 0xFFF | rdev >> 32 & ~0xFFF
    return f"{major}:{rdev & 0xFF | rdev >> 12 & ~0xFF & 0xFFFFFFFF}"


_FLAG_LETTERS = {
    0x1: "s", 0x2: "u", 0x4: "c", 0x8: "S", 0x10: "i", 0x20: "a", 0x40: "d", 0x80: "A", 0x4000: "j", 0x8000: "t",
    0x10000: "D", 0x20000: "T", 0x800000: "C", 0x2000000: "x", 0x20000000: "P", 0x40000000: "F",
}  # fmt: skip


def _letters(flags: int) -> str:
    """As lsattr(1) prints them."""
    return "".join(letter for bit, letter in _FLAG_LETTERS.items() if flags & bit) or "none"
