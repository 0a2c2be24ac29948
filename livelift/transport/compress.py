"""zstd at the edge: packing a batch at the level in force, unpacking within announced sizes.

A blob is probed first: 8 KiB out of its middle at the fastest level. What does not shrink there is sent plain, and
the next blobs are not even probed; media and encrypted files come in runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import zstandard

from livelift.errors import WireError
from livelift.platform.system import idle_and_cores
from livelift.protocol.frames import ZSTD_BLOB, ZSTD_HEADS
from livelift.transport.ladder import LADDER, Sample, step

Buffer = bytes | bytearray | memoryview

PROBE: Final = 8 << 10
PROBED_FROM: Final = 64 << 10  # smaller blobs are packed outright: that costs as little as the probe
WORTH: Final = 0.9  # of the plain size; above it unpacking is not worth its time
PAUSE: Final = 3  # blobs sent plain after a miss
SMALLEST: Final = 512
INTERVAL: Final = 0.5


class Packed(NamedTuple):
    heads: Buffer
    blobs: Sequence[Buffer]
    blob_wire: int
    flags: int


class Packer:
    """One lane's compressor. Not thread-safe (a zstd context is not)."""

    def __init__(self) -> None:
        self._contexts: dict[int, zstandard.ZstdCompressor] = {}
        self._skip = 0

    def pack(self, heads: bytes, blobs: Sequence[Buffer], blob_size: int, level: int) -> Packed:
        if level == 0:
            return Packed(heads, blobs, blob_size, 0)
        flags = 0
        packed_heads = self._try(heads, level) if len(heads) >= SMALLEST else None
        if packed_heads is not None:
            heads, flags = packed_heads, ZSTD_HEADS
        if blob_size >= SMALLEST and self._is_promising(blobs, blob_size):
            whole = blobs[0] if len(blobs) == 1 else b"".join(blobs)
            packed = self._try(whole, level)
            if packed is None:
                self._skip = PAUSE
            else:
                return Packed(heads, (packed,), len(packed), flags | ZSTD_BLOB)
        return Packed(heads, blobs, blob_size, flags)

    def _is_promising(self, blobs: Sequence[Buffer], size: int) -> bool:
        if self._skip:
            self._skip -= 1
            return False
        if size < PROBED_FROM:
            return True
        largest = memoryview(max(blobs, key=len))
        start = max(0, (len(largest) - PROBE) // 2)
        if self._try(largest[start : start + PROBE], LADDER[1].level) is not None:
            return True
        self._skip = PAUSE
        return False

    def _try(self, data: Buffer, level: int) -> bytes | None:
        context = self._contexts.get(level)
        if context is None:
            context = self._contexts[level] = zstandard.ZstdCompressor(level=level)
        packed = context.compress(data)
        return packed if len(packed) < WORTH * len(data) else None


class Unpacker:
    """One lane's decompressor. WireError for whatever is not one zstd frame of exactly the announced size."""

    def __init__(self) -> None:
        self._context = zstandard.ZstdDecompressor()

    def unpack(self, data: Buffer, size: int) -> bytes:
        self._check(data, size)
        try:
            plain = self._context.decompress(data, max_output_size=size, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise WireError(f"heads do not unpack: {error}") from error
        if len(plain) != size:
            raise WireError(f"heads unpack to {len(plain)} bytes instead of {size}")
        return plain

    def unpack_into(self, data: Buffer, room: memoryview) -> None:
        """Fill ``room`` exactly."""
        self._check(data, len(room))
        filled = 0
        try:
            with self._context.stream_reader(data) as reader:
                while filled < len(room):
                    count = reader.readinto(room[filled:])
                    if not count:
                        raise WireError(f"blob unpacks to {filled} bytes instead of {len(room)}")
                    filled += count
                if reader.read(1):
                    raise WireError("blob unpacks to more than announced")
        except zstandard.ZstdError as error:
            raise WireError(f"blob does not unpack: {error}") from error

    def _check(self, data: Buffer, size: int) -> None:
        # The library allocates what the zstd frame says, whatever limit it is given: so that is looked at first.
        try:
            claimed = zstandard.frame_content_size(data)
        except zstandard.ZstdError as error:
            raise WireError(f"not a zstd frame: {error}") from error
        if claimed != size:
            raise WireError(f"zstd frame of {claimed} bytes where {size} were announced")


class Compression:
    """The level in force for the lanes of one channel. Lanes ``note`` what they did; the keeper lets it ``decide``.

    ``idle_cores``: how many cores the machine had idle since it was last asked. ``enabled`` False: always off.
    """

    def __init__(self, lanes: int, idle_cores: Callable[[], float], enabled: bool = True) -> None:
        self._lanes = max(lanes, 1)
        self._idle_cores = idle_cores
        self._enabled = enabled
        self._lock = threading.Lock()
        self._rung = 0
        self._since = time.monotonic()
        self._raw = self._wire = self._packed = 0
        self._packing = self._blocked = 0.0

    @property
    def level(self) -> int:
        return LADDER[self._rung].level

    def note(self, raw: int, wire: int, packed: int, packing: float, blocked: float) -> None:
        """A frame went out: ``packed`` raw bytes took ``packing`` CPU seconds; the lane waited ``blocked`` seconds."""
        with self._lock:
            self._raw += raw
            self._wire += wire
            self._packed += packed
            self._packing += packing
            self._blocked += blocked

    def decide(self, receiver_limited: float) -> None:
        """Call often; acts each half second. ``receiver_limited``: seconds, summed over the lanes and since the last
        decision, in which the peer's closed receive window was what stopped them."""
        now = time.monotonic()
        seconds = now - self._since
        if not self._enabled:
            return
        with self._lock:
            waited = max(0.0, self._blocked - receiver_limited)
            sample = Sample(
                seconds,
                self._raw,
                self._wire,
                min(1.0, waited / (seconds * self._lanes)),
                self._packed / self._packing if self._packing else 0.0,
                self._idle_cores(),
                self._lanes,
            )
            self._rung = step(self._rung, sample)
            self._since = now
            self._raw = self._wire = self._packed = 0
            self._packing = self._blocked = 0.0


class IdleCores:
    """Idle cores since the last call."""

    def __init__(self) -> None:
        self._idle, self._cores = idle_and_cores()
        self._at = time.monotonic()

    def __call__(self) -> float:
        idle, cores = idle_and_cores()
        now = time.monotonic()
        elapsed, self._at = now - self._at, now
        gained, self._idle = idle - self._idle, idle
        return min(float(cores), gained / elapsed) if elapsed > 0 else 0.0
