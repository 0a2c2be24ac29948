"""Which parts of a file changed, by the digests of its blocks; and how many bytes that costs.

Late-read capture says only *that* a file changed. The source keeps a 16-byte BLAKE3 digest of every block that the
target has (1/1024 of the content) and sends blocks whose digest differs, so one 8 KiB change in a large file costs
one block on the wire.
"""

from __future__ import annotations

from collections.abc import Iterator

from blake3 import blake3

DIGEST = 16
"""Bytes kept of each BLAKE3 digest: 128 bits, so an accidental match is out of reach; the closing verification hashes
whole
files besides."""

SMALL = 128 << 10
"""Files up to this size are sent whole: reading and sending them costs less than keeping their digests."""

_BLOCK = 16 << 10
_MAX_BLOCKS = 4 << 20


def block_size(size: int) -> int:
    """16 KiB, doubled until a file has at most 4 Mi blocks (64 MiB of digests)."""
    block = _BLOCK
    while size > block * _MAX_BLOCKS:
        block *= 2
    return block


def digests(data: bytes | memoryview, block: int) -> bytes:
    """Digests of consecutive blocks of ``data``, back to back. The last block may be short."""
    view = memoryview(data)
    return b"".join(blake3(view[i : i + block]).digest(DIGEST) for i in range(0, len(view), block))


class HoleDigest:
    """The digest of a block that lies wholly in a hole: a marker that no hash of data equals (but for chance)."""

    VALUE = b"\0" * DIGEST


def changed(old: bytes, new: bytes, first_block: int, block: int) -> Iterator[tuple[int, int, bool]]:
    """(offset, length, hole) of each run of blocks whose digest is not the old one. ``new`` covers blocks from
    ``first_block`` on; ``old`` covers the file from its start. Lengths are whole blocks: the caller clips to the file.
    """
    start = -1
    hole = False
    count = len(new) // DIGEST
    for i in range(count + 1):
        at = first_block + i
        mine = new[i * DIGEST : i * DIGEST + DIGEST]
        differs = i < count and mine != old[at * DIGEST : at * DIGEST + DIGEST]
        is_hole = mine == HoleDigest.VALUE
        if start >= 0 and (not differs or is_hole != hole):
            yield start * block, (at - start) * block, hole
            start = -1
        if differs and start < 0:
            start, hole = at, is_hole
