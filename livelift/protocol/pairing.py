"""The four messages of a pairing, their codec, and what is signed. Pure; the cryptography is in `livelift.identity`.

    client                                        server
      PairHello(role, nonce)          ──>
                                      <──   PairChallenge(job, salt, nonce)
      PairProof(csr, mac)             ──>                     mac = HMAC(scrypt(code, salt), transcript)
                                      <──   PairGrant(certificate, ca, mac)  or  PairDenied

The transcript binds the server certificate that each side sees, so a man in the middle (who must show another one) gets
a value that is worth nothing elsewhere; guessing the code from it costs one scrypt a try.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from livelift.errors import WireError
from livelift.model.job import Map
from livelift.protocol.messages import PROTOCOL, Role

MAX_PAIRING: Final = 16 << 10
"""Longest message of a pairing: two P-256 certificates are below 2 KiB."""

Nonce = Annotated[bytes, Meta(min_length=32, max_length=32)]
Der = Annotated[bytes, Meta(max_length=4096)]


class PairHello(msgspec.Struct, frozen=True, array_like=True, tag=48):
    role: Role
    nonce: Nonce
    protocol: tuple[int, int] = PROTOCOL
    version: Annotated[str, Meta(max_length=64)] = ""


class PairChallenge(msgspec.Struct, frozen=True, array_like=True, tag=49):
    job: Annotated[str, Meta(max_length=64)]
    salt: Nonce
    nonce: Nonce


class PairProof(msgspec.Struct, frozen=True, array_like=True, tag=50):
    csr: Der
    mac: Nonce


class PairGrant(msgspec.Struct, frozen=True, array_like=True, tag=51):
    """``maps``: the lines of the job, for a source that was given none (a server job). They are the target's word once
    ``mac`` is right, for it binds the connection's certificate."""

    certificate: Der
    ca: Der
    mac: Nonce
    maps: Annotated[tuple[Map, ...], Meta(max_length=64)] = ()


class PairDenied(msgspec.Struct, frozen=True, array_like=True, tag=52):
    """``code`` as in `livelift.errors`."""

    code: Annotated[str, Meta(max_length=64)]
    text: Annotated[str, Meta(max_length=1024)]
    remedy: Annotated[str, Meta(max_length=1024)] = ""


PairMessage = PairHello | PairChallenge | PairProof | PairGrant | PairDenied

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[PairMessage]] = msgspec.msgpack.Decoder(PairMessage)


def encode(message: PairMessage) -> bytes:
    """With its length in front (u32, big-endian)."""
    data = _encoder.encode(message)
    return len(data).to_bytes(4, "big") + data


def length_of(prefix: bytes) -> int:
    """How many bytes follow the 4 bytes ``prefix``; WireError beyond `MAX_PAIRING`."""
    length = int.from_bytes(prefix, "big")
    if len(prefix) != 4 or not 0 < length <= MAX_PAIRING:
        raise WireError("not a pairing message")
    return length


def decode(data: bytes) -> PairMessage:
    try:
        return _decoder.decode(data)
    except (ValueError, RecursionError, TypeError, OverflowError) as error:
        raise WireError(f"malformed pairing message: {error}") from error


def transcript(label: bytes, *parts: bytes) -> bytes:
    """One unambiguous byte string: every part with its length, so no two lists of parts have the same one."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in (b"livelift pairing 1", label, *parts))
