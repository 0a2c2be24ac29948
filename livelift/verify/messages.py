"""What the two verifiers say to each other: MessagePack, strictly decoded. Pure.

The source asks, the target answers; every request has exactly one reply, in order. Numbers are part of the format.

    Begin          -> Begun       what will be compared (format, sample)
    AskDirectories -> Directories digests of up to 512 directories -> which differ, and their rows as far as they fit
    FetchRows      -> Rows        the rest of a differing directory
    AskLinks       -> Links       digest of one map's hard links -> equal or not
    FetchLinks     -> LinkRows    the target's hard links, page by page, only if they differ
    Finish         -> Finished    the target's tree digest and counts
"""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec

from livelift.errors import WireError

FORMAT: Final = 1
"""Number of the manifest and dialogue format; both sides must have the same."""

MAX_PAYLOAD: Final = 4 << 20
"""Largest message that is accepted. Pages are made to end near 1 MiB; one row or one path more may go on top."""

PAGE_BYTES: Final = 1 << 20
PAGE_DIRECTORIES: Final = 512
MAX_PATH: Final = 1 << 20
"""Paths below a map's root, in bytes; PATH_MAX (4096) is a limit of one system call, not of a tree."""

Small = Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Path = Annotated[bytes, msgspec.Meta(max_length=MAX_PATH)]


class _Message(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """Bytes that decode to a message have one length and one meaning: no field more, none less."""


class Begin(_Message, frozen=True, tag=1):
    """``fraction`` of the files whose content is read, chosen by ``key`` (32 bytes) so that both sides choose the
    same."""

    format: Small
    fraction: Annotated[float, msgspec.Meta(ge=0, le=1)]
    key: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class Digest(_Message, frozen=True):
    """One directory: its path is the first ``keep`` bytes of the path before, then ``rest``. Empty digest: rows are
    wanted."""

    keep: Annotated[int, msgspec.Meta(ge=0, le=MAX_PATH)]
    rest: Path
    digest: Annotated[bytes, msgspec.Meta(max_length=32)]


class AskDirectories(_Message, frozen=True, tag=2):
    map: Small
    directories: Annotated[tuple[Digest, ...], msgspec.Meta(max_length=PAGE_DIRECTORIES)]


class FetchRows(_Message, frozen=True, tag=3):
    """Rows of a directory from number ``start`` on."""

    map: Small
    path: Path
    start: Count


class AskLinks(_Message, frozen=True, tag=4):
    map: Small
    digest: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class FetchLinks(_Message, frozen=True, tag=5):
    map: Small
    after: Path


class Finish(_Message, frozen=True, tag=6):
    pass


class Begun(_Message, frozen=True, tag=65):
    pass


class Differing(_Message, frozen=True):
    """Directory number ``index`` of the question differs; its first rows; ``more``: fetch the rest."""

    index: Small
    rows: tuple[bytes, ...]
    more: bool


class Directories(_Message, frozen=True, tag=66):
    absent: tuple[Small, ...]
    differing: tuple[Differing, ...]


class Rows(_Message, frozen=True, tag=67):
    rows: tuple[bytes, ...]
    more: bool


class Links(_Message, frozen=True, tag=68):
    equal: bool


class LinkRows(_Message, frozen=True, tag=69):
    """(path, smallest path of its group), in order of path."""

    rows: tuple[tuple[Path, Path], ...]
    more: bool


class Finished(_Message, frozen=True, tag=70):
    tree: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    directories: Count
    objects: Count
    files: Count
    bytes_hashed: Count
    files_cached: Count
    bytes_cached: Count
    troubles: Count


Request = Begin | AskDirectories | FetchRows | AskLinks | FetchLinks | Finish
Reply = Begun | Directories | Rows | Links | LinkRows | Finished

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def encode(message: Request | Reply) -> bytes:
    return _encoder.encode(message)


def decode_request(payload: bytes) -> Request:
    """Raises WireError for everything that is not exactly one request."""
    return _decode(_requests, payload)


def decode_reply(payload: bytes) -> Reply:
    """Raises WireError for everything that is not exactly one reply."""
    return _decode(_replies, payload)


def _decode(decoder: msgspec.msgpack.Decoder[T], payload: bytes) -> T:
    if len(payload) > MAX_PAYLOAD:
        raise WireError(f"a message of {len(payload)} bytes")
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, ValueError) as error:
        raise WireError(f"malformed message: {error}") from None


def pack_paths(directories: list[tuple[bytes, bytes]]) -> tuple[Digest, ...]:
    """(path, digest) pairs with each path written as what it adds to the one before: about 45 bytes a directory."""
    packed = []
    before = b""
    for path, digest in directories:
        keep = _common(before, path)
        packed.append(Digest(keep, path[keep:], digest))
        before = path
    return tuple(packed)


def unpack_paths(directories: tuple[Digest, ...]) -> list[tuple[bytes, bytes]]:
    """The inverse. Raises WireError for a path that could lead out of the map, or a page that would blow up."""
    unpacked = []
    path = b""
    total = 0
    for item in directories:
        if item.keep > len(path):
            raise WireError("a path continues more than there is")
        path = path[: item.keep] + item.rest
        total += len(path)
        if total > MAX_PAYLOAD or len(item.digest) not in (0, 32):
            raise WireError("malformed page of directories")
        check_path(path)
        unpacked.append((path, item.digest))
    return unpacked


def check_path(path: bytes) -> None:
    """A path below a root, without tricks. Raises WireError."""
    if path and (b"\0" in path or not {b"", b".", b".."}.isdisjoint(path.split(b"/"))):
        raise WireError(f"not a path below the map: {path[:200]!r}")


def _common(one: bytes, other: bytes) -> int:
    length = min(len(one), len(other))
    if one[:length] == other[:length]:
        return length
    low, high = 0, length  # the first difference lies in [low, high)
    while high - low > 1:
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low
