"""Reads the names in an initramfs: cpio archives one after the other, the last one mostly compressed.

The format is the kernel's (Documentation/driver-api/early-userspace/buffer-format.rst). Microcode comes first, in an
archive of its own that is not compressed; then the archive proper. Nothing is unpacked to disk.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, Final, NamedTuple, Protocol, cast

import zstandard

from livelift.errors import CorruptError
from livelift.takeover.lz4 import LZ4_FRAME, LZ4_LEGACY, Lz4Reader

HEADER: Final = 110
MAGICS: Final = (b"070701", b"070702")
TRAILER: Final = b"TRAILER!!!"
REMEDY = "build the initramfs again"
_LONGEST_NAME = 4096
_PIECE = 1 << 20


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Entry(NamedTuple):
    """``name`` as stored, usually without a slash in front. ``mode``: st_mode. ``size``: bytes of content."""

    name: bytes
    mode: int
    size: int


class Source(io.RawIOBase):
    """A stream of which the next bytes can be looked at."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._held = b""

    def peek(self, size: int) -> bytes:
        """Up to ``size`` bytes, fewer at the end only."""
        while len(self._held) < size and (piece := self._stream.read(_PIECE)):
            self._held += piece
        return self._held[:size]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self.peek(len(buffer)) if not self._held else self._held[: len(buffer)]
        buffer[: len(found)] = found
        self._held = self._held[len(found) :]
        return len(found)

    def take(self, size: int) -> bytes:
        """Exactly ``size`` bytes. EOFError: there are fewer."""
        found = self.peek(size)
        if len(found) < size:
            raise EOFError("it ends in the middle of an archive")
        self._held = self._held[size:]
        return found

    def skip(self, size: int) -> None:
        while size:
            size -= len(self.take(min(size, _PIECE)))


def _zstd(stream: Source) -> Readable:
    plain = cast("IO[bytes]", stream)
    return zstandard.ZstdDecompressor(max_window_size=1 << 31).stream_reader(plain, read_across_frames=True)


def _xz(stream: Source) -> Readable:
    return lzma.LZMAFile(io.BufferedReader(stream))


def _lzma(stream: Source) -> Readable:
    return lzma.LZMAFile(io.BufferedReader(stream), format=lzma.FORMAT_ALONE)


COMPRESSIONS: Final[tuple[tuple[bytes, str, Callable[[Source], Readable]], ...]] = (
    (b"\x1f\x8b", "gzip", lambda stream: gzip.GzipFile(fileobj=stream)),
    (b"\x28\xb5\x2f\xfd", "zstd", _zstd),
    (b"\xfd7zXZ\0", "xz", _xz),
    (b"\x5d\0\0", "lzma", _lzma),
    (b"BZh", "bzip2", lambda stream: bz2.BZ2File(io.BufferedReader(stream))),
    (LZ4_LEGACY, "lz4", Lz4Reader),
    (LZ4_FRAME, "lz4", Lz4Reader),
)
"""Magic number, name and opener of what the kernel knows (lib/decompress.c), but lzo."""


def entries(image: Readable) -> Iterator[Entry]:
    """All entries of all archives of an image. CorruptError: it ends in the middle, is damaged, is compressed with lzo,
    or is no initramfs at all."""
    try:
        yield from _archives(Source(image))
    except (EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError, ValueError) as error:
        raise CorruptError(f"initramfs: {error}", remedy=REMEDY) from error


def _archives(stream: Source) -> Iterator[Entry]:
    empty = True
    while head := _after_padding(stream):
        empty = False
        if head[:6] in MAGICS:
            yield from _archive(stream)
            continue
        if head.startswith(b"\x89LZO"):
            raise ValueError("compressed with lzo, which is not read here")
        opener = next((opener for magic, _, opener in COMPRESSIONS if head.startswith(magic)), None)
        if opener is None:
            raise ValueError(f"neither cpio nor a known compression: {head[:6].hex(' ')}")
        yield from _archives(Source(opener(stream)))
        return
    if empty:
        raise ValueError("it is empty")


def _after_padding(stream: Source) -> bytes:
    """Zeros between archives are skipped. The next bytes, not taken; empty at the end."""
    while head := stream.peek(512):
        zeros = len(head) - len(head.lstrip(b"\0"))
        if not zeros:
            return head[:8]
        stream.skip(zeros)
    return b""


def _archive(stream: Source) -> Iterator[Entry]:
    while True:
        header = stream.take(HEADER)
        if header[:6] not in MAGICS or not header.isalnum():
            raise ValueError(f"no cpio header where one is due: {header[:6]!r}")
        fields = [int(header[6 + 8 * n : 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        if not 0 < name_size <= _LONGEST_NAME:
            raise ValueError(f"a name of {name_size} bytes")
        name = stream.take(name_size).rstrip(b"\0")
        stream.skip(-(HEADER + name_size) % 4)
        if name == TRAILER:
            return
        yield Entry(name, mode, size)
        stream.skip(size + -size % 4)
