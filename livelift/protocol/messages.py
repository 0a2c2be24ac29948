"""The control messages between two agents, as values, and their msgpack codec.

A message is a msgpack array: its tag, then its fields in order. A newer minor version may append fields (with a
default); an older reader ignores them. Anything else that is not understood is a `WireError`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from livelift import __version__
from livelift.errors import VersionError, WireError
from livelift.model.job import Map

PROTOCOL: Final = (1, 0)
"""(major, minor): majors must be equal; a minor only adds what the other side may ignore."""

MAX_MESSAGE: Final = 8 << 20

Role = Literal["source", "target"]
Flow = Literal["up", "down"]
U64 = Annotated[int, Meta(ge=0)]
I64 = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
Text = Annotated[str, Meta(max_length=65536)]


class Peer(NamedTuple):
    """Whom a certificate names: the job (hex id) and the role in it."""

    job: str
    role: Role


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Source to target, first of all. ``clock_ns``: wall clock; ``epoch``: incarnation of the source's log (a target
    that knows another one starts anew)."""

    role: Role
    job: Text
    maps: tuple[Map, ...]
    clock_ns: I64
    epoch: U64
    features: tuple[Text, ...] = ()
    version: Text = __version__
    protocol: tuple[int, int] = PROTOCOL


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The answer: what the target already has, and what its replica's file systems can keep (plain values only)."""

    durable_lsn: U64
    applied_lsn: U64
    clock_ns: I64
    facts: dict[str, Any] = {}
    features: tuple[Text, ...] = ()
    version: Text = __version__
    protocol: tuple[int, int] = PROTOCOL


class Ack(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Everything up to ``durable_lsn`` survives a power cut on the target. ``applied_time_ns``: capture time of the
    record ``applied_lsn``, so the source can tell the lag. ``stalled``: why replay does not go on (disk full),
    or empty."""

    durable_lsn: U64
    applied_lsn: U64
    applied_time_ns: I64
    free_bytes: U64
    stalled: Text = ""


class Resync(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The target cannot apply what came for this object (oid 0: for this name): read it again."""

    oid: U64
    parent: U64
    name: bytes
    reason: Text


class VerifyAsk(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """``kind`` and ``payload`` belong to the verify room; ``id`` comes back in the answer."""

    id: U64
    kind: bytes
    payload: bytes


class VerifyAnswer(msgspec.Struct, frozen=True, array_like=True, tag=6):
    id: U64
    kind: bytes
    payload: bytes


class CutAsk(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Answer when the replica is exactly the source at ``lsn`` and durable."""

    lsn: U64
    label: Text


class CutDone(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """``digest`` of the replica's manifest; a non-empty ``problem`` says why there is no cut."""

    lsn: U64
    label: Text
    digest: bytes
    problem: Text = ""


class Status(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """A snapshot for the operator's screen: msgpack of a dict; never steers anything."""

    data: bytes


class Renew(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """``csr``: a certificate signing request (DER) for the same job and role as the certificate in use."""

    csr: bytes


class Renewed(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """``certificate``: DER."""

    certificate: bytes


class Fault(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """The sender gives up. ``code`` is that of `livelift.errors`."""

    code: Text
    text: Text
    remedy: Text = ""


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """``sent_ns``: the sender's monotonic clock, only echoed."""

    sent_ns: U64


class Pong(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """``clock_ns``: the answerer's wall clock: with the round trip it tells how far the two clocks are apart."""

    sent_ns: U64
    clock_ns: I64


class Bye(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """The last message. Delivered after every batch that was sent before it."""

    reason: Text = ""


class StageAsk(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """A step of a whole server's move that is the target's work (docs/internals/server-job.md). ``options``: JSON. It
    may take minutes; batches and acknowledgements go on meanwhile. Asking again after a break is allowed: every step
    looks first whether it has been done."""

    id: U64
    verb: Text
    options: bytes = b"{}"


class StageAnswer(msgspec.Struct, frozen=True, array_like=True, tag=17):
    """``body``: JSON; if not ``ok`` an object with ``code``, ``text``, ``remedy`` and ``exit`` of the error."""

    id: U64
    ok: bool
    body: bytes


class Join(msgspec.Struct, frozen=True, array_like=True, tag=32):
    """First frame of every connection, client to server: this connection is part ``lane`` of channel ``session``.

    Lanes 0 and 1 are control (client to server, server to client), lanes 2.. carry batches in the direction ``flow``
    (``up``: client to server). ``lanes``: how many data lanes there will be.
    """

    session: Annotated[bytes, Meta(min_length=16, max_length=16)]
    lane: Annotated[int, Meta(ge=0, le=33)]
    lanes: Annotated[int, Meta(ge=1, le=32)]
    flow: Flow
    protocol: tuple[int, int] = PROTOCOL
    version: Text = __version__


class Joined(msgspec.Struct, frozen=True, array_like=True, tag=33):
    """The server has this lane."""

    protocol: tuple[int, int] = PROTOCOL
    version: Text = __version__


Message = (
    Hello
    | Welcome
    | Ack
    | Resync
    | VerifyAsk
    | VerifyAnswer
    | CutAsk
    | CutDone
    | Status
    | Renew
    | Renewed
    | Fault
    | Ping
    | Pong
    | Bye
    | StageAsk
    | StageAnswer
    | Join
    | Joined
)

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """Raises WireError if the message is longer than `MAX_MESSAGE`: the sender must cut it into parts."""
    data = _encoder.encode(message)
    if len(data) > MAX_MESSAGE:
        raise WireError(f"a {type(message).__name__} of {len(data)} bytes exceeds the limit of {MAX_MESSAGE}")
    return data


def decode(data: bytes | bytearray | memoryview) -> Message:
    """Raises WireError for whatever is not exactly one well-formed message."""
    if len(data) > MAX_MESSAGE:
        raise WireError(f"a message of {len(data)} bytes exceeds the limit of {MAX_MESSAGE}")
    try:
        return _decoder.decode(data)
    # msgspec reports depth as RecursionError, bad UTF-8 and dates out of range as ValueError (DecodeError is one too).
    except (ValueError, RecursionError, TypeError, OverflowError) as error:
        raise WireError(f"malformed message: {error}") from error


def negotiate(theirs: tuple[int, int], version: str = "") -> tuple[int, int]:
    """The protocol both speak: (major, smaller minor). VersionError when the majors differ."""
    if theirs[0] != PROTOCOL[0]:
        raise VersionError(
            f"this agent ({__version__}) speaks protocol {PROTOCOL[0]}, "
            f"the other ({version[:40] or 'unknown'}) speaks protocol {theirs[0]}"
        )
    return PROTOCOL[0], min(PROTOCOL[1], theirs[1])
