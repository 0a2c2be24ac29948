"""What is never moved of a volume's root directory. Pure."""

from __future__ import annotations

from typing import Final

VOLATILE: Final = frozenset(
    name.casefold()
    for name in (
        "pagefile.sys", "hiberfil.sys", "swapfile.sys", "System Volume Information", "$Extend", "$Recycle.Bin",
        "DumpStack.log.tmp",
    )
)  # fmt: skip
"""Memory on disk, snapshots and the journal of this volume, NTFS's own files, what users have thrown away."""


def is_volatile(name: bytes) -> bool:
    """Of a name in the root of a volume."""
    return name.decode("utf-8", "surrogatepass").casefold() in VOLATILE
