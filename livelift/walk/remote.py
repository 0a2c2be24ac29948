"""Readers as processes: each lane is a socket pair, over which units go out with their directories' descriptors
(unix(7), SCM_RIGHTS) and frames come back.

Why: eight threads that make eight short system calls for a file hand the interpreter's lock around seven times a file;
measured on two cores with a cold disk, that cost as much CPU as the reading itself.

A unit: ``length u32``, then MessagePack [Wanted], whose directories' descriptors come along. A frame:
``length u32 | bytes of content u32 | last u32 | CPU us u32``, then MessagePack _Head, then the page's payload. Both
ends are of one version and on one machine, so nothing here is a format.
"""

from __future__ import annotations

import array
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from livelift.log.pages import Page, Row
from livelift.walk.reading import Frame, Other, Wanted, read_files

log = logging.getLogger(__name__)

_UNIT: Final = struct.Struct("<I")
_FRAME: Final = struct.Struct("<IIII")
_DIRECTORIES: Final = 128
"""Descriptors that go with one unit: half of what one message may carry (SCM_MAX_FD is 253, net/scm.h)."""
_BUFFER: Final = 2 << 20


class _Head(msgspec.Struct, array_like=True, gc=False):
    """A frame without its payload. An empty ``body``: no page."""

    names: int
    others: list[Other]
    body: bytes = b""
    crc: int = 0
    rows: list[Row] = []
    linked: list[int] = []


_encode = msgspec.msgpack.Encoder().encode
_decode_unit = msgspec.msgpack.Decoder(list[Wanted]).decode
_decode_head = msgspec.msgpack.Decoder(_Head).decode

_CHILD: Final = "import sys; sys.path[:] = {path!r}; from livelift.walk.remote import serve; serve({fds!r})"


class LaneLostError(OSError):
    """The reader process is gone."""


class Lane:
    """The agent's end of one lane; used by one thread. ``cpu``: seconds that the other end has used for us."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self.cpu = 0.0

    def read(self, directories: Sequence[int], names: Sequence[Wanted]) -> Iterator[Frame]:
        """As `read_files`. LaneLostError: the rest must be read otherwise."""
        if len(directories) > _DIRECTORIES:
            raise ValueError(f"{len(directories)} directories in one unit")
        body = _encode(names)
        try:
            socket.send_fds(self._end, [_UNIT.pack(len(body))], directories)
            self._end.sendall(body)
            last = 0
            while not last:
                length, size, last, used = _FRAME.unpack(_exactly(self._end, _FRAME.size))
                head = _decode_head(_exactly(self._end, length))
                payload = _exactly(self._end, size) if size else b""
                self.cpu += used / 1e6
                page = Page(head.body, payload, head.crc, head.rows, head.linked) if head.body else None
                yield Frame(head.names, page, head.others)
        except (OSError, EOFError) as error:
            raise LaneLostError(f"a reader process ended: {error}") from error

    def close(self) -> None:
        """From any thread: one that waits for a frame gets LaneLostError (close(2) alone would not wake it)."""
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()


class Processes:
    """``count`` reader processes with ``lanes`` in all. They end when their lanes are closed, or with the agent."""

    def __init__(self, count: int, lanes: int) -> None:
        self.lanes: list[Lane] = []
        self._running: list[subprocess.Popen[bytes]] = []
        for number in range(count):
            share = lanes // count + (number < lanes % count)
            pairs = [socket.socketpair() for _ in range(share)]
            try:
                for ours, theirs in pairs:
                    for end in (ours, theirs):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
                fds = [theirs.fileno() for _, theirs in pairs]
                code = _CHILD.format(path=sys.path, fds=fds)
                self._running.append(
                    subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL, pass_fds=fds)
                )
            finally:
                for _, theirs in pairs:
                    theirs.close()
            self.lanes.extend(Lane(ours) for ours, _ in pairs)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._running]

    def close(self) -> None:
        for lane in self.lanes:
            lane.close()
        for process in self._running:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:  # stuck in a read that the disk does not answer
                process.kill()
                process.wait()


# -- the other end -----------------------------------------------------------------------------------------------------


def serve(fds: Sequence[int]) -> None:
    """The life of a reader process: one thread for each lane, until the agent closes it."""
    ends = [socket.socket(fileno=fd) for fd in fds]
    threads = [threading.Thread(target=_serve, args=(end,), daemon=True) for end in ends[1:]]
    for thread in threads:
        thread.start()
    _serve(ends[0])
    for thread in threads:
        thread.join()


def _serve(end: socket.socket) -> None:
    while True:
        try:
            header, directories = _receive(end)
            names = _decode_unit(_exactly(end, *_UNIT.unpack(header)))
        except (EOFError, ConnectionError):
            return
        try:
            begun = time.thread_time()
            frames = read_files(directories, names)
            frame: Frame | None = next(frames)
            while frame is not None:
                after = next(frames, None)
                used, begun = time.thread_time() - begun, time.thread_time()
                _send(end, frame, after is None, used)
                frame = after
        except ConnectionError:
            return
        finally:
            for fd in directories:
                os.close(fd)


def _send(end: socket.socket, frame: Frame, last: bool, used: float) -> None:
    page = frame.page
    head = _Head(frame.names, frame.others)
    if page is not None:
        head = _Head(frame.names, frame.others, page.body, page.crc, page.rows, page.linked)
    body = _encode(head)
    payload = page.payload if page is not None else b""
    header = _FRAME.pack(len(body), len(payload), last, min(int(used * 1e6), 0xFFFFFFFF))
    sent = end.sendmsg([header, body, payload])
    if sent < len(header) + len(body):
        end.sendall((header + body)[sent:])
        sent = len(header) + len(body)
    if sent < len(header) + len(body) + len(payload):
        end.sendall(memoryview(payload)[sent - len(header) - len(body) :])


def _receive(end: socket.socket) -> tuple[bytes, list[int]]:
    """The header of a unit and the descriptors that came with its first byte."""
    found = array.array("i")
    data, ancillary, _, _ = end.recvmsg(_UNIT.size, socket.CMSG_SPACE(_DIRECTORIES * found.itemsize), _CLOEXEC)
    for level, kind, raw in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(raw[: len(raw) - len(raw) % found.itemsize])
    if not data:
        raise EOFError("closed")
    if len(data) < _UNIT.size:
        data += _exactly(end, _UNIT.size - len(data))
    return data, list(found)


_CLOEXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def _exactly(end: socket.socket, size: int) -> bytearray:
    buffer = bytearray(size)
    view = memoryview(buffer)
    while view:
        got = end.recv_into(view, 0, socket.MSG_WAITALL)
        if not got:
            raise EOFError("closed")
        view = view[got:]
    return buffer
