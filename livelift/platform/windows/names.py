"""Names: UTF-16 on NTFS, bytes everywhere in Livelift. Pure.

A name travels as UTF-8 in which a lone surrogate is encoded like any other code point ("surrogatepass"): every name
that NTFS can hold, valid UTF-16 or not, comes back as it was. Python encodes file names on Windows in the same way
(PEP 529).
"""

from __future__ import annotations

from typing import Final

FORBIDDEN: Final = frozenset("\0/\\")
"""Never part of one name: a separator would lead out of the directory. Everything else is for the file system."""


def to_bytes(utf16: bytes | memoryview) -> bytes:
    """ValueError: an odd number of bytes."""
    raw = bytes(utf16)
    if len(raw) % 2:
        raise ValueError("a UTF-16 name has an even number of bytes")
    return raw.decode("utf-16-le", "surrogatepass").encode("utf-8", "surrogatepass")


def to_text(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")


def to_utf16(name: bytes) -> bytes:
    """ValueError: not UTF-8, so no name that came from NTFS."""
    return to_text(name).encode("utf-16-le", "surrogatepass")


def one_name(name: bytes) -> str:
    """The text of a name that stays inside its directory. ValueError: it would not."""
    text = to_text(name)
    if not text or text in (".", "..") or not FORBIDDEN.isdisjoint(text):
        raise ValueError(f"not one name: {name!r}")
    return text
