"""The one-time pairing code: ten characters of Crockford's base 32 (50 bits), shown as XXXXX-XXXXX."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from livelift.errors import TrustError

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH: Final = 10

_TOLERATED: Final = str.maketrans({"O": "0", "I": "1", "L": "1", "-": "", " ": ""})


def new_code() -> str:
    text = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    return f"{text[:5]}-{text[5:]}"


def normalise(code: str) -> str:
    """Ten characters of the alphabet; lower case, O for 0, I and L for 1, blanks and dashes are tolerated."""
    text = code.strip().upper().translate(_TOLERATED)
    if len(text) != LENGTH or not set(text) <= set(ALPHABET):
        remedy = "type the ten characters that the target shows, XXXXX-XXXXX"
        raise TrustError("that is not a pairing code", remedy=remedy)
    return text


def derive(code: str, salt: bytes) -> bytes:
    """The 32-byte key behind a code. scrypt (RFC 7914) with 32 MiB, about 0.1 s: a recorded exchange lets an attacker
    test codes offline, and 2^50 tries are some three million core-years against a code that lives 15 minutes."""
    return hashlib.scrypt(normalise(code).encode(), salt=salt, n=1 << 15, r=8, p=1, maxmem=64 << 20, dklen=32)
