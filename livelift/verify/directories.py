"""What is known of a directory as a whole: the digest of its manifest, for as long as no stamp in it has changed.

A closing verification looks at every object's stamp (stat(2)) and finds nearly all of them unchanged. Their rows need
not be made again then, nor the cache asked for each: one digest over names and stamps tells that the manifest is the
one of last time. What makes an unchanged stamp mean unchanged content is what `livelift.verify.cache` says of each
object; a directory is kept only if every object in it was.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
from blake3 import blake3

from livelift.platform.system import os

LARGEST: Final = 1 << 16
"""Names; of larger directories nothing is kept, as all of their stamps would be held in memory once more."""

Seen = tuple[int, bytes, os.stat_result]
"""(place in the listing, name, stat)"""

_encode = msgspec.msgpack.Encoder().encode


class Whole(NamedTuple):
    """``stamps``: `stamps_of` when the manifest was made. ``digest``: the manifest's. ``objects``, ``files``,
    ``bytes``: what it counts; files and bytes are those of regular files that are not empty."""

    stamps: bytes
    digest: bytes
    objects: int
    files: int
    bytes: int


def stamps_of(seen: Sequence[Seen], bare: Sequence[tuple[bytes, int]]) -> bytes:
    """BLAKE3-256 over what is in a directory: (name, device, inode, size, mtime, ctime) of each object, and (name,
    type) of each that must only exist. Empty: it has none that could be compared again (a time beyond 64 bits)."""
    rows = [(name, st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns) for _, name, st in seen]
    try:
        return blake3(_encode((rows, bare))).digest()
    except OverflowError:
        return b""


def whole_of(stamps: bytes, digest: bytes, seen: Sequence[Seen]) -> Whole:
    sizes = [st.st_size for _, _, st in seen if stat.S_ISREG(st.st_mode) and st.st_size]
    return Whole(stamps, digest, len(seen), len(sizes), sum(sizes))
