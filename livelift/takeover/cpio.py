"""Reads an initramfs: cpio archives one after the other, the last one mostly compressed.

The format is the kernel's (Documentation/driver-api/early-userspace/buffer-format.rst). Microcode comes first, in an
archive of its own that is not compressed; then the archive proper. Nothing is unpacked to disk.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Container, Iterator
from typing import Any, Final, NamedTuple, Protocol

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

    def unread(self, data: bytes) -> None:
        """Bytes that were read and are to be read again."""
        self._held = data + self._held

    def skip(self, size: int) -> None:
        while size:
            size -= len(self.take(min(size, _PIECE)))


class Decompressor(Protocol):
    """What the standard library and zstandard have in common: one frame or member."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


class _Unpacked:
    """Frames of one kind that follow each other directly. What comes behind them goes back to the source."""

    def __init__(self, source: Source, magic: bytes, new: Callable[[], Decompressor]) -> None:
        self._source = source
        self._magic = magic
        self._new = new
        self._frame: Decompressor | None = new()

    def read(self, size: int, /) -> bytes:
        while self._frame is not None:
            piece = self._source.read(_PIECE)
            found = self._frame.decompress(piece)
            if self._frame.eof:
                self._source.unread(self._frame.unused_data)
                self._frame = self._new() if self._source.peek(len(self._magic)) == self._magic else None
            elif not piece:
                raise EOFError("it ends in the middle of compressed data")
            if found:
                return found
        return b""


def _opener(magic: bytes, new: Callable[[], Decompressor]) -> Callable[[Source], Readable]:
    return lambda source: _Unpacked(source, magic, new)


def _zstd() -> Decompressor:
    return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()


_NEW: Final[tuple[tuple[bytes, str, Callable[[], Decompressor]], ...]] = (
    (b"\x1f\x8b", "gzip", lambda: zlib.decompressobj(31)),  # 16 + 15: a gzip header, the largest window
    (b"\x28\xb5\x2f\xfd", "zstd", _zstd),
    (b"\xfd7zXZ\0", "xz", lzma.LZMADecompressor),
    (b"\x5d\0\0", "lzma", lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE)),
    (b"BZh", "bzip2", bz2.BZ2Decompressor),
)
COMPRESSIONS: Final[tuple[tuple[bytes, str, Callable[[Source], Readable]], ...]] = (
    *((magic, name, _opener(magic, new)) for magic, name, new in _NEW),
    (LZ4_LEGACY, "lz4", Lz4Reader),
    (LZ4_FRAME, "lz4", Lz4Reader),
)
"""Magic number, name and opener of what the kernel knows (lib/decompress.c), but lzo."""


def entries(image: Readable) -> Iterator[Entry]:
    """All entries of all archives of an image. CorruptError: it ends in the middle, is damaged, is compressed with lzo,
    or is no initramfs at all."""
    return (entry for entry, _ in contents(image, ()))


def contents(image: Readable, wanted: Container[bytes]) -> Iterator[tuple[Entry, bytes | None]]:
    """As `entries`, with the content of those whose names are ``wanted``."""
    try:
        yield from _archives(Source(image), wanted)
    except (EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError, ValueError) as error:
        raise CorruptError(f"initramfs: {error}", remedy=REMEDY) from error


def compression(image: Readable) -> str:
    """Name of how the main archive is compressed; empty if it is not. CorruptError, as `entries`."""
    stream = Source(image)
    try:
        while head := _after_padding(stream):
            if head[:6] not in MAGICS:
                return next((name for magic, name, _ in COMPRESSIONS if head.startswith(magic)), "lzo")
            for _ in _archive(stream, ()):
                pass
    except (EOFError, ValueError) as error:
        raise CorruptError(f"initramfs: {error}", remedy=REMEDY) from error
    return ""


def plain(image: Readable) -> Iterator[bytes]:
    """An image with nothing compressed, in pieces. CorruptError, as `entries`."""
    try:
        yield from _plain(Source(image))
    except (EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError, ValueError) as error:
        raise CorruptError(f"initramfs: {error}", remedy=REMEDY) from error


def _plain(stream: Source) -> Iterator[bytes]:
    while head := _after_padding(stream):
        if head[:6] not in MAGICS:
            opener = next(opener for magic, _, opener in COMPRESSIONS if head.startswith(magic))
            yield from _plain(Source(opener(stream)))
            continue
        name = b""
        while name != TRAILER:
            header = stream.take(HEADER)
            if header[:6] not in MAGICS or not header.isalnum():
                raise ValueError(f"no cpio header where one is due: {header[:6]!r}")
            size, name_size = int(header[54:62], 16), int(header[94:102], 16)
            name = stream.take(name_size)
            yield header + name
            yield stream.take(-(HEADER + name_size) % 4 + size + -size % 4)
            name = name.rstrip(b"\0")


def _archives(stream: Source, wanted: Container[bytes]) -> Iterator[tuple[Entry, bytes | None]]:
    empty = True
    while head := _after_padding(stream):
        empty = False
        if head[:6] in MAGICS:
            yield from _archive(stream, wanted)
            continue
        if head.startswith(b"\x89LZO"):
            raise ValueError("compressed with lzo, which is not read here")
        opener = next((opener for magic, _, opener in COMPRESSIONS if head.startswith(magic)), None)
        if opener is None:
            raise ValueError(f"neither cpio nor a known compression: {head[:6].hex(' ')}")
        yield from _archives(Source(opener(stream)), wanted)
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


def _archive(stream: Source, wanted: Container[bytes]) -> Iterator[tuple[Entry, bytes | None]]:
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
        found = stream.take(size) if name in wanted else None
        yield Entry(name, mode, size), found
        stream.skip((0 if found is not None else size) + -size % 4)
