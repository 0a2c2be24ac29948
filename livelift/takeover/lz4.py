"""LZ4 as initramfs images have it: the legacy format that the kernel reads (lz4 -l), and the frame format.

Source: the LZ4 block and frame format descriptions 1.6. Checksums of frames are not compared: what matters here are
names, and cpio's structure shows damage.
"""

from __future__ import annotations

from typing import Final, Protocol

LZ4_LEGACY: Final = b"\x02\x21\x4c\x18"
LZ4_FRAME: Final = b"\x04\x22\x4d\x18"
_LEGACY_BLOCK: Final = 8 << 20


class Stream(Protocol):
    def take(self, size: int) -> bytes: ...
    def peek(self, size: int) -> bytes: ...


class Lz4Reader:
    """Decompresses block by block. ValueError: no LZ4, or damaged."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._ready = b""
        self._window = b""
        magic = stream.take(4)
        self._legacy = magic == LZ4_LEGACY
        self._done = False
        if not self._legacy:
            self._frame_header()

    def _frame_header(self) -> None:
        """FLG, BD, content size and dictionary id as FLG says, one byte of checksum."""
        flags = self._stream.take(2)[0]
        if flags >> 6 != 1:
            raise ValueError("an LZ4 frame of another version")
        self._linked, self._block_sum = not flags & 0x20, bool(flags & 0x10)
        self._content_sum = bool(flags & 0x04)
        self._stream.take((8 if flags & 0x08 else 0) + (4 if flags & 0x01 else 0) + 1)

    def read(self, size: int, /) -> bytes:
        """At least one byte, unless it is the end."""
        while not self._ready and not self._done:
            self._ready = self._block()
        found, self._ready = self._ready[:size], self._ready[size:]
        return found

    def _block(self) -> bytes:
        head = self._stream.peek(4)
        if len(head) < 4 or (self._legacy and head == bytes(4)):  # padding behind the last block
            self._done = True
            return b""
        if head == LZ4_LEGACY and self._legacy:  # another stream behind the first
            self._stream.take(4)
            return b""
        length = int.from_bytes(self._stream.take(4), "little")
        if self._legacy:
            return decompress(self._stream.take(length), _LEGACY_BLOCK, b"")
        if not length:
            self._done = True
            self._stream.take(4 if self._content_sum else 0)
            return b""
        raw = self._stream.take(length & 0x7FFFFFFF)
        if self._block_sum:
            self._stream.take(4)
        found = raw if length & 0x80000000 else decompress(raw, 4 << 20, self._window if self._linked else b"")
        self._window = (self._window + found)[-65536:]
        return found


def decompress(raw: bytes, limit: int, window: bytes) -> bytes:
    """One block. ``limit``: of its decompressed size in bytes. ``window``: what matches may reach back into."""
    out = bytearray(window)
    start, at, end = len(window), 0, len(raw)
    try:
        while at < end:
            token = raw[at]
            at += 1
            length = token >> 4
            if length == 15:
                while (more := raw[at]) == 255:
                    length += 255
                    at += 1
                length += more
                at += 1
            if at + length > end:
                raise ValueError("LZ4: literals beyond the block")
            out += raw[at : at + length]
            at += length
            if at == end:
                break
            offset = raw[at] | raw[at + 1] << 8
            at += 2
            length = (token & 15) + 4
            if length == 19:
                while (more := raw[at]) == 255:
                    length += 255
                    at += 1
                length += more
                at += 1
            if not 0 < offset <= len(out):
                raise ValueError("LZ4: a match before the beginning")
            if offset >= length:
                out += out[len(out) - offset : len(out) - offset + length]
            else:
                pattern = bytes(out[-offset:])
                out += (pattern * (length // offset + 1))[:length]
            if len(out) - start > limit:
                raise ValueError("LZ4: a block that is too long")
    except IndexError:
        raise ValueError("LZ4: a block that ends in the middle") from None
    return bytes(out[start:])
