"""Where a file differs that a comparison has found different: each side tells the digests of its pieces.

For people, and for whoever has to find out how it came to that: which bytes, whether a kept digest was believed, and
how many names the file has on either side. Nothing is decided by it.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from typing import Final

import msgspec
from blake3 import blake3

from livelift.platform.system import os
from livelift.verify.cache import Cached
from livelift.verify.content import READ, open_quietly, read_content

LARGEST: Final = 64 << 20
"""Bytes of a file whose pieces are looked at: the workload may stand still meanwhile."""
MOST: Final = 1024
"""Pieces of one file."""
SHOWN: Final = 4
_DIGEST: Final = 16
_PIECE: Final = 4096

NOT_KEPT, RIGHT, WRONG = range(3)
"""What the digest cache had for the file: nothing under its stamp; its digest; another one, and so it is no longer the
file that was read, whatever its stamp says."""


KIND: Final = b"pieces"
"""Of a question to the other side."""


class Question(msgspec.Struct, frozen=True, array_like=True):
    """``piece``: of the asker's `Pieces`. The answer is `Pieces` or None."""

    map: int
    path: bytes
    piece: int


class Pieces(msgspec.Struct, frozen=True, array_like=True):
    """``digests``: of every ``piece`` bytes, back to back; empty for a file that is too large."""

    size: int
    names: int
    kept: int
    piece: int
    digests: bytes


def piece_of(size: int) -> int:
    """Bytes of a piece: 4 KiB, doubled until there are at most `MOST`."""
    piece = _PIECE
    while size > piece * MOST:
        piece *= 2
    return piece


def read_pieces(dir_fd: int, name: bytes, piece: int, cached: Cached | None) -> Pieces | None:
    """``piece``: at least so many bytes each; `piece_of` has the last word, for the other side has no say in how much
    memory this takes. ``cached``: what the cache has for this file. None: no regular file is there.
    OSError: it cannot be read."""
    st = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    if not stat.S_ISREG(st.st_mode):
        return None
    piece = max(piece, piece_of(st.st_size))
    if st.st_size > LARGEST:
        return Pieces(st.st_size, st.st_nlink, NOT_KEPT, piece, b"")
    kept = NOT_KEPT
    if cached is not None and cached.content and cached.matches(st):
        content = read_content(dir_fd, name, st)
        kept = RIGHT if content is not None and content.digest == cached.content else WRONG
    digests = bytearray()
    fd = open_quietly(dir_fd, name)
    try:
        step = max(READ // piece, 1) * piece
        for at in range(0, st.st_size, step):
            view = memoryview(os.pread(fd, min(step, st.st_size - at), at))
            for begin in range(0, len(view), piece):
                digests += blake3(view[begin : begin + piece]).digest(_DIGEST)
    finally:
        os.close(fd)
    return Pieces(st.st_size, st.st_nlink, kept, piece, bytes(digests))


def differing(one: Pieces, other: Pieces) -> list[tuple[int, int]]:
    """(begin, end) of the runs in which they differ, the end of the larger file included."""
    found: list[tuple[int, int]] = []
    size = max(one.size, other.size)
    for at in range(0, size, one.piece):
        place = slice(at // one.piece * _DIGEST, (at // one.piece + 1) * _DIGEST)
        if one.digests[place] != other.digests[place]:
            end = min(at + one.piece, size)
            if found and found[-1][1] == at:
                found[-1] = found[-1][0], end
            else:
                found.append((at, end))
    return found


def describe(one: Pieces | None, other: Pieces | None) -> str:
    """In a line. ``one``: the source's, ``other``: the target's; None: no file there."""
    if one is None or other is None:
        return "no file on the " + ("source" if one is None else "target")
    words = []
    if max(one.size, other.size) > LARGEST or one.piece != other.piece:
        words.append("not looked at in pieces: too large, or too unlike")
    else:
        words.append(_ranges(differing(one, other)))
    if one.names != other.names:
        words.append(f"{one.names} names | {other.names}")
    for side, pieces in (("source", one), ("target", other)):
        if pieces.kept != NOT_KEPT:
            words.append(f"a kept digest on the {side}" + (", which is wrong" if pieces.kept == WRONG else ""))
    return "; ".join(words)


def _ranges(runs: Sequence[tuple[int, int]]) -> str:
    if not runs:
        return "no byte differs now"
    shown = ", ".join(f"{begin}-{end}" for begin, end in runs[:SHOWN])
    more = f" and {len(runs) - SHOWN} more" if len(runs) > SHOWN else ""
    return f"bytes {shown}{more}"
