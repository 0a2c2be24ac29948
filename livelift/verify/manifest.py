"""The manifest: what must be equal on both sides. One canonical row of bytes per object, one digest per directory.

A row is the MessagePack array of a `ManifestEntry` (integers in their shortest form, so one entry has one encoding).
A directory's manifest is its rows sorted by name; its digest is BLAKE3-256 over them. Rows stay encoded: a million
files in one directory cost about 130 bytes each, and two directories are compared as two sets of bytes of which only
the odd ones are decoded.

Not in a row, because user space cannot set it or it means nothing on other hardware: ctime, birth time, inode number,
generation, link count, the size of a directory, the permission bits of a symbolic link (always 0777, chmod(2)). Not
atime either: reading moves it. Hard links are compared on their own (`verify.links`), since a group may span
directories.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Final

import msgspec
from blake3 import blake3

from livelift.errors import WireError
from livelift.model.entry import Attributes

SHORT_XATTR: Final = 64
"""Xattr values up to this length stand in the row itself (an SELinux label, a capability set, a usual ACL); longer
ones as BLAKE3."""

CHANGING: Final = "it kept changing while it was read"
"""Trouble of a row: the object was written to all the time."""

LISTING: Final = b"/"
"""Name of the only row of a directory that could not be listed; its trouble says why. No object has this name."""

# FS_IOC_GETFLAGS bits (linux/fs.h) that chattr(1) can set, so they can differ and can be made equal.
SETTABLE_FLAGS: Final = (
    0x00000001  # s  secure deletion
    | 0x00000002  # u  undelete
    | 0x00000004  # c  compress
    | 0x00000008  # S  synchronous
    | 0x00000010  # i  immutable
    | 0x00000020  # a  append only
    | 0x00000040  # d  no dump
    | 0x00000080  # A  no atime
    | 0x00004000  # j  data journalling
    | 0x00008000  # t  no tail merging
    | 0x00010000  # D  synchronous directory
    | 0x00020000  # T  top of a directory hierarchy
    | 0x00800000  # C  no copy on write
    | 0x02000000  # x  DAX
    | 0x20000000  # P  project inheritance
    | 0x40000000  # F  case folding
)
"""Left out: m (NOCOMP, 0x400), which btrfs sets by itself on data that does not shrink, and the bits that tell how
the file system stores the object (extents 0x80000, hashed directory 0x1000, inline data 0x10000000, huge file
0x40000, encrypted, verity)."""


class ManifestEntry(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """One object as both sides must see it. ``name``: last component; empty only for the root of a map, in its own
    manifest.

    ``mode`` with the type bits. ``size``: regular files only. ``mtime``: ns since the epoch, every type. ``xattrs``:
    sorted (name, length of value, value or, when longer than `SHORT_XATTR`, its BLAKE3-256). ``content``: see
    `verify.content`, empty where nothing is to be read (no regular file, or not in the sample). ``layout``: digest of
    the map of data and holes, empty without holes. ``trouble``: why the object could not be read; never equal to
    anything, not even to the same trouble on the other side.
    """

    name: bytes
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    rdev: int = 0
    flags: int = 0
    project: int = 0
    target: bytes = b""
    xattrs: tuple[tuple[bytes, int, bytes], ...] = ()
    content: bytes = b""
    layout: bytes = b""
    trouble: str = ""

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ManifestEntry)


def entry_of(name: bytes, attributes: Attributes, content: bytes = b"", layout: bytes = b"") -> ManifestEntry:
    """The comparable part of an object's attributes."""
    mode = attributes.mode
    kind = stat.S_IFMT(mode)
    plain = kind in (stat.S_IFREG, stat.S_IFDIR)
    return ManifestEntry(
        name=name,
        mode=kind if kind == stat.S_IFLNK else mode,
        uid=attributes.uid,
        gid=attributes.gid,
        size=attributes.size if kind == stat.S_IFREG else 0,
        mtime=attributes.mtime,
        rdev=attributes.rdev if kind in (stat.S_IFBLK, stat.S_IFCHR) else 0,
        flags=attributes.flags & SETTABLE_FLAGS if plain else 0,
        project=attributes.project if plain else 0,
        target=attributes.target if kind == stat.S_IFLNK else b"",
        xattrs=tuple(sorted(_short(key, value) for key, value in attributes.xattrs)) if attributes.xattrs else (),
        content=content,
        layout=layout,
    )


def _short(key: bytes, value: bytes) -> tuple[bytes, int, bytes]:
    return key, len(value), value if len(value) <= SHORT_XATTR else blake3(value).digest()


def encode_entry(entry: ManifestEntry) -> bytes:
    """Raises OverflowError for a number beyond 64 bits (an mtime after the year 2554, which btrfs accepts)."""
    return _encoder.encode(entry)


def decode_entry(row: bytes) -> ManifestEntry:
    """Raises WireError: rows come from the peer."""
    try:
        return _decoder.decode(row)
    except (msgspec.DecodeError, ValueError) as error:
        raise WireError(f"malformed manifest row: {error}") from None


_HEAD: Final = bytes([0x90 | len(ManifestEntry.__struct_fields__)])  # MessagePack fixarray
_NO_TROUBLE: Final = b"\xa0"


def row_of(name: bytes, meta: bytes, content: bytes, layout: bytes) -> bytes:
    """The row again from its parts; ``meta`` is what `meta_of` cut out of it."""
    encode = _encoder.encode
    return _HEAD + encode(name) + meta + encode(content) + encode(layout) + _NO_TROUBLE


def meta_of(row: bytes, name: bytes, content: bytes, layout: bytes) -> bytes:
    """All of a row (without trouble) but its name, content and layout: what the cache keeps of an object's
    attributes."""
    encode = _encoder.encode
    return row[len(_HEAD) + len(encode(name)) : -len(encode(content) + encode(layout) + _NO_TROUBLE)]


class DirectoryManifest(msgspec.Struct, frozen=True, dict=True, eq=False):
    """One directory: the map it belongs to, its path below the map's root (b"" is the root), its rows sorted by name.

    The root's manifest begins with the root's own row (empty name); every other directory's attributes are in its
    parent's manifest. ``troubled``: some row has a trouble, so the digest must not count as equal. ``made`` None: only
    the digest is ``known``, of this many ``objects``; ``again`` reads the directory, as it then is, when rows are asked
    for.
    """

    map: int
    path: bytes
    made: tuple[bytes, ...] | None
    troubled: bool = False
    known: bytes = b""
    objects: int = 0
    again: Callable[[], tuple[bytes, ...]] = tuple

    @cached_property
    def rows(self) -> tuple[bytes, ...]:
        return self.again() if self.made is None else self.made

    @cached_property
    def digest(self) -> bytes:
        return self.known or blake3(b"".join(self.rows)).digest()

    @property
    def count(self) -> int:
        """How many rows, without making them."""
        return self.objects if self.made is None else len(self.made)

    def entries(self) -> list[ManifestEntry]:
        return [decode_entry(row) for row in self.rows]


def directory_manifest(map_index: int, path: bytes, entries: Iterable[ManifestEntry]) -> DirectoryManifest:
    """From entries in any order (tests, small tools; the scan makes rows directly)."""
    ordered = sorted(entries, key=lambda entry: entry.name)
    return DirectoryManifest(
        map_index, path, tuple(map(encode_entry, ordered)), any(entry.trouble for entry in ordered)
    )


class TreeDigest:
    """BLAKE3-256 over (map, path, digest) of every directory, in the order in which they are added: parents first,
    names sorted."""

    def __init__(self) -> None:
        self._hash = blake3()

    def add(self, map_index: int, path: bytes, digest: bytes) -> None:
        self._hash.update(_encoder.encode((map_index, path, digest)))

    def value(self) -> bytes:
        return self._hash.digest()


def join(directory: bytes, name: bytes) -> bytes:
    """Path below the map's root. The root's own row has the empty name and the empty path."""
    return directory + b"/" + name if directory and name else directory or name
