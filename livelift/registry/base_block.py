"""The base block: the first 4096 bytes of a hive and of its transaction logs (the latter keep 512 of them).

Offsets, little endian (regf specification of M. Suhanov, "Base block"): "regf" 0 | sequence 1 4 | sequence 2 8 |
FILETIME 12 | major 20 | minor 24 | type 28 | format 32 | root cell 36 | size of the bins 40 | clustering 44 | end of
the file name, UTF-16 48..112 | checksum 508. What lies between 112 and 508 belongs to the transaction manager and is
not read here.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from livelift.errors import HiveError

BLOCK: Final = 4096
PRIMARY: Final = 0
OLD_LOGS: Final = (1, 2)
"""Types of logs with a dirty vector: 1 from XP to 7; libregf knows 2 as well, of older ones."""
NEW_LOG: Final = 6
MINORS: Final = range(3, 7)
MAX_BINS: Final = 0x7FFFF000
"""Cell offsets have 31 bits: the highest one tells stable from volatile storage."""

_HEADER = struct.Struct("<4sIIQIIIIIII64s")
_WORDS = struct.Struct("<127I")
_CHECKSUM = struct.Struct("<I")


class BaseBlock(NamedTuple):
    """``checked``: the checksum is right. ``root``: offset of the root cell, ``size``: of all bins, in bytes.
    ``clustering``: sectors of 512 bytes per sector of the disk."""

    sequence1: int
    sequence2: int
    timestamp: int
    minor: int
    type: int
    root: int
    size: int
    file_name: str = ""
    clustering: int = 1
    checked: bool = True

    @property
    def clean(self) -> bool:
        """Written to the end: nothing of it is only in a log."""
        return self.checked and self.sequence1 == self.sequence2


def checksum(block: bytes | memoryview) -> int:
    """XOR of the 127 words before it; 0 and 2**32 - 1 are never stored."""
    total = 0
    for word in _WORDS.unpack_from(block):
        total ^= word
    return {0: 1, 0xFFFFFFFF: 0xFFFFFFFE}.get(total, total)


def unpack(data: bytes | memoryview) -> BaseBlock:
    """HiveError if this is no base block at all; a wrong checksum is told by ``checked``."""
    if len(data) < 512 or bytes(data[:4]) != b"regf":
        raise HiveError("it does not begin with a base block (regf)", remedy="name a registry hive in the regf format")
    _, sequence1, sequence2, stamp, major, minor, kind, form, root, size, clustering, name = _HEADER.unpack_from(data)
    if major != 1 or minor not in MINORS or form != 1 or clustering not in (1, 2, 4, 8):
        raise HiveError(
            f"format {major}.{minor} (layout {form}, clustering {clustering}) is not one of 1.3 to 1.6",
            remedy="hives of Windows NT 3 and of Windows 9x are not read; load it on a newer Windows and `reg save` it",
        )
    text = name.decode("utf-16-le", "surrogatepass").split("\0", 1)[0]
    checked = checksum(data) == _CHECKSUM.unpack_from(data, 508)[0]
    return BaseBlock(sequence1, sequence2, stamp, minor, kind, root, size, text, clustering, checked)


def pack(block: BaseBlock) -> bytes:
    """4096 bytes, the checksum included. Of a name that is too long the end is kept, as Windows does it."""
    units = block.file_name.encode("utf-16-le", "surrogatepass")[-62:]
    head = _HEADER.pack(
        b"regf", block.sequence1, block.sequence2, block.timestamp, 1, block.minor, block.type, 1, block.root,
        block.size, block.clustering, units,
    )  # fmt: skip
    raw = head.ljust(508, b"\0")
    return (raw + _CHECKSUM.pack(checksum(raw))).ljust(BLOCK, b"\0")
