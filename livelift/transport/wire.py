"""Frames on one TLS socket, one direction: exact reads, writes without needless copies, socket options."""

from __future__ import annotations

import socket
import ssl
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from livelift.errors import UnreachableError, WireError
from livelift.protocol.frames import HEADER_SIZE, FrameKind, Header, message_header, parse
from livelift.protocol.messages import Message, decode, encode

Buffer = bytes | bytearray | memoryview

JOINED_BELOW: Final = 16 << 10
"""Bytes. A TLS record holds 16 KiB (RFC 8446, 5.1): smaller buffers are joined, larger ones are handed over as they
are."""
JOINED_TO: Final = 256 << 10

# linux/tcp.h, struct tcp_info: tcpi_probes (u8, 3), tcpi_unacked (u32, 24), tcpi_last_ack_recv (u32, 56, ms),
# tcpi_rwnd_limited (u64, 176, microseconds, since Linux 4.9), tcpi_snd_wnd (u32, 228, since Linux 5.4).
_INFO_SIZE: Final = 232
_UNACKED: Final = struct.Struct("=24xI28xI")
_LIMITED: Final = struct.Struct("=176xQ")
_WINDOW: Final = struct.Struct("=228xI")


class HungUp(Exception):
    """End of the stream; ``inside`` a frame or between two."""

    def __init__(self, inside: bool) -> None:
        super().__init__("connection lost in the middle of a frame" if inside else "connection closed")


def read_into(connection: socket.socket, view: memoryview, inside: bool = True) -> None:
    """Fill ``view``. HungUp at the end of the stream, OSError for the rest."""
    filled, size = 0, len(view)
    while filled < size:
        count = connection.recv_into(view[filled:], size - filled)
        if not count:
            raise HungUp(inside or filled > 0)
        filled += count


def read_header(connection: socket.socket, room: bytearray) -> Header:
    read_into(connection, memoryview(room), inside=False)
    return parse(room)


def read_message(connection: socket.socket, header: Header) -> Message:
    if header.kind is not FrameKind.MESSAGE or header.flags:
        raise WireError("a batch on a control connection")
    room = bytearray(header.heads_raw)
    read_into(connection, memoryview(room))
    return decode(room)


def exchange(connection: ssl.SSLSocket, message: Message) -> None:
    """Write one message outside of any channel (joining)."""
    data = encode(message)
    connection.sendall(message_header(len(data), 0) + data)


def read_one(connection: ssl.SSLSocket, limit: int) -> Message:
    """Read one message outside of any channel, of at most ``limit`` bytes."""
    header = read_header(connection, bytearray(HEADER_SIZE))
    if header.heads_raw > limit:
        raise WireError(f"a first message of {header.heads_raw} bytes")
    return read_message(connection, header)


def pieces(first: Buffer, rest: Sequence[Buffer]) -> Iterator[Buffer]:
    """The same bytes in few, large buffers: small neighbours joined (copied), large ones untouched."""
    group: list[Buffer] = [first]
    size = len(first)
    for part in rest:
        if len(part) >= JOINED_BELOW:
            if group:
                yield group[0] if len(group) == 1 else b"".join(group)
                group, size = [], 0
            yield part
            continue
        group.append(part)
        size += len(part)
        if size >= JOINED_TO:
            yield b"".join(group)
            group, size = [], 0
    if group:
        yield group[0] if len(group) == 1 else b"".join(group)


def send_all(
    connection: socket.socket, parts: Iterator[Buffer], grain: int | None, pace: Callable[[int], None] | None
) -> None:
    """``pace(size)`` is called before each piece of at most ``grain`` bytes."""
    for part in parts:
        if grain is None or pace is None:
            connection.sendall(part)
            continue
        view = memoryview(part)
        for start in range(0, len(view), grain):
            piece = view[start : start + grain]
            pace(len(piece))
            connection.sendall(piece)


def tune(connection: socket.socket, dead_after: float, control: bool) -> None:
    """Socket options of a lane whose handshake is done. ``dead_after``: seconds.

    TCP_USER_TIMEOUT goes on control connections only: a receive window closed by a busy target runs it out too
    (tcp(7)), and back-pressure may last for minutes. A dead data lane is found by `is_suspect`.
    """
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "win32":  # TCP_KEEPIDLE and its like came with Windows 10 1709; this is older than all of them
        milliseconds = int(dead_after * 1000)
        connection.ioctl(socket.SIO_KEEPALIVE_VALS, (1, milliseconds // 2, milliseconds // 6))
    elif hasattr(socket, "TCP_KEEPIDLE"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(dead_after / 2)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, int(dead_after / 6)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    if control and hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(dead_after * 1000))


def is_suspect(connection: socket.socket, dead_after: float) -> bool:
    """Whether bytes are out and nothing came back for ``dead_after`` seconds.

    A closed receive window is back-pressure, never death: the kernel probes it at ever longer intervals, up to two
    minutes (TCP_RTO_MAX), so silence means nothing then; the control connections tell whether the peer lives.
    True for a moment also when a long idle connection has just sent; so look twice.
    """
    info = _info(connection)
    if info is None:
        return False
    unacked, last_ack = _UNACKED.unpack_from(info)
    closed = info[3] or (len(info) >= _INFO_SIZE and not _WINDOW.unpack_from(info)[0])
    return bool(unacked and not closed) and last_ack > dead_after * 1000


def receiver_limited(connection: socket.socket) -> float:
    """Seconds in which the peer's receive window, not the link, held this connection up; 0.0 where unknown."""
    info = _info(connection)
    return _LIMITED.unpack_from(info)[0] / 1e6 if info and len(info) >= _LIMITED.size else 0.0


def _info(connection: socket.socket) -> bytes | None:
    if not hasattr(socket, "TCP_INFO"):
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
    except OSError:
        return None  # being closed
    return info if len(info) >= 60 else None


def shut(connection: socket.socket) -> None:
    """Wake whoever waits in this socket; harmless on one already closed.

    Not ``connection.shutdown``: SSLSocket's takes TLS off before it shuts, and a thread between two writes would send
    its next bytes in clear.
    """
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        pass


def unreachable(where: str, error: Exception) -> UnreachableError:
    return UnreachableError(f"{where}: {error}", remedy="the job goes on by itself when the connection is back")
