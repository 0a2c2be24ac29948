"""One data lane: the loop that packs and writes batches, and the loop that reads and unpacks them."""

from __future__ import annotations

import mmap
import socket
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from livelift.errors import WireError
from livelift.log.batch import Batch
from livelift.protocol import frames
from livelift.protocol.frames import FrameKind, Header
from livelift.transport import wire
from livelift.transport.compress import Compression, Packer, Unpacker
from livelift.transport.inbox import Inbox
from livelift.transport.limiter import Limiter
from livelift.transport.outbox import Outbox
from livelift.transport.pool import Pool


class Outgoing(NamedTuple):
    """A batch with its number in the channel, and whom to tell when its buffers are free again."""

    batch: Batch
    sequence: int
    sent: Callable[[], None] | None


class Sender:
    """Empties queue ``lane`` of the outbox into one socket. ``raw``, ``wire``: bytes so far."""

    def __init__(
        self,
        outbox: Outbox[Outgoing],
        lane: int,
        compression: Compression,
        limiter: Limiter | None,
        over: threading.Event,
    ) -> None:
        self.raw = 0
        self.wire = 0
        self._outbox = outbox
        self._lane = lane
        self._compression = compression
        self._limiter = limiter
        self._over = over
        self._packer = Packer()

    def run(self, connection: socket.socket) -> None:
        """Until the outbox is at its end. OSError when the connection breaks."""
        while taken := self._outbox.take(self._lane):
            item, size = taken
            self._send(connection, item, size)
            self._outbox.sent(self._lane, size)
            if item.sent:
                item.sent()
            # An idle lane must not keep the last batch's buffers alive.
            del item, taken

    def _send(self, connection: socket.socket, item: Outgoing, size: int) -> None:
        batch = item.batch
        began = time.thread_time()
        packed = self._packer.pack(batch.heads, batch.blobs, batch.payload_size, self._compression.level)
        packing = time.thread_time() - began
        header = Header(
            FrameKind.BATCH,
            packed.flags,
            item.sequence,
            batch.first_lsn,
            batch.count,
            len(packed.heads),
            len(batch.heads),
            packed.blob_wire,
            batch.payload_size,
        )
        parts = wire.pieces(frames.build(header) + packed.heads, packed.blobs)
        wall, busy = time.monotonic(), time.thread_time()
        limiter = self._limiter
        wire.send_all(connection, parts, limiter.grain if limiter else None, self._pace)
        blocked = time.monotonic() - wall - (time.thread_time() - busy)
        self.raw += size
        self.wire += header.wire_size
        heads_packed = len(batch.heads) if packed.flags & frames.ZSTD_HEADS else 0
        blob_packed = batch.payload_size if packed.flags & frames.ZSTD_BLOB else 0
        self._compression.note(size, header.wire_size, heads_packed + blob_packed, packing, max(blocked, 0.0))

    def _pace(self, size: int) -> None:
        if self._limiter:
            self._limiter.take(size, self._over.wait)


class Receiver:
    """Fills the inbox from one socket. ``accept`` is called for every batch before it is read (may raise WireError)."""

    def __init__(self, inbox: Inbox, pool: Pool, accept: Callable[[], None]) -> None:
        self.raw = 0
        self.wire = 0
        self._inbox = inbox
        self._pool = pool
        self._accept = accept
        self._unpacker = Unpacker()

    def run(self, connection: socket.socket) -> None:
        """Until the inbox is at its end. OSError or HungUp when the connection ends, WireError for a wrong frame."""
        room = bytearray(frames.HEADER_SIZE)
        while True:
            header = wire.read_header(connection, room)
            if header.kind is not FrameKind.BATCH:
                raise WireError("a message on a data lane")
            self._accept()
            if not self._inbox.admit(header.sequence, header.heads_raw + header.blob_raw):
                return
            heads = self._heads(connection, header)
            buffer = self._pool.take(header.blob_raw) if header.blob_raw else None
            blob = self._blob(connection, header, buffer)
            self.raw += header.heads_raw + header.blob_raw
            self.wire += header.wire_size
            self._inbox.deliver(header, heads, blob, buffer)
            del heads, buffer, blob

    def _heads(self, connection: socket.socket, header: Header) -> bytes:
        packed = bytearray(header.heads_wire)
        wire.read_into(connection, memoryview(packed))
        return self._unpacker.unpack(packed, header.heads_raw) if header.flags & frames.ZSTD_HEADS else bytes(packed)

    def _blob(self, connection: socket.socket, header: Header, buffer: mmap.mmap | None) -> memoryview:
        if buffer is None:
            return memoryview(b"")
        blob = memoryview(buffer)[: header.blob_raw]
        if not header.flags & frames.ZSTD_BLOB:
            wire.read_into(connection, blob)
            return blob
        aside = self._pool.take(header.blob_wire)
        packed = memoryview(aside)[: header.blob_wire]
        wire.read_into(connection, packed)
        self._unpacker.unpack_into(packed, blob)
        self._pool.give(aside)
        return blob
