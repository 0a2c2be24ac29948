"""Upper case as the kernel has it: one UTF-16 unit for one unit, by a table that never grew with Unicode.

Names compare in it, subkeys are sorted and hashed by it. The rule below gives the table of Windows 7 exactly (the
tests compare it with the $UpCase file of an NTFS volume, which Windows makes from the same table): a letter maps to its
capital or title form if that is one unit and maps back, unless Unicode gave it one only after version 5.1. "ß", "ı"
and "µ" stay themselves. Whether Windows 10 and later know more pairs is not known; nothing but those rare letters
depends on it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

_LATER: Final = frozenset(
    unit
    for first, last in (
        (0x23F, 0x240), (0x252, 0x252), (0x25C, 0x25C), (0x261, 0x261), (0x265, 0x266), (0x26A, 0x26A),
        (0x26C, 0x26C), (0x282, 0x282), (0x287, 0x287), (0x29D, 0x29E), (0x3F3, 0x3F3), (0x525, 0x52F),
        (0x10D0, 0x10FF), (0x13F8, 0x13FD), (0x1C80, 0x1C8A), (0x1D8E, 0x1D8E), (0x2C5F, 0x2C5F), (0x2CEC, 0x2CF3),
        (0x2D27, 0x2D2D), (0xA661, 0xA661), (0xA699, 0xA69B), (0xA791, 0xABBF),
    )
    for unit in range(first, last + 1)
)  # fmt: skip


def _unit(c: str) -> str:
    upper = c.upper()
    if len(upper) != 1:
        upper = c.title()
    if len(upper) != 1 or upper.lower() != c or ord(c) > 0xFFFF or ord(c) in _LATER:
        return c
    return upper


@lru_cache(maxsize=65536)
def fold(name: str) -> str:
    """The form in which names compare."""
    return name.upper() if name.isascii() else "".join(map(_unit, name))


def order(folded: str) -> bytes:
    """The key by which subkeys are sorted: UTF-16 units of the folded name, as numbers."""
    return folded.encode("utf-16-be", "surrogatepass")
