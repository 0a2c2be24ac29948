"""Readers as processes: each lane is a socket pair, over which units go out with their directories' descriptors
(unix(7), SCM_RIGHTS) and frames come back.

Why: eight threads that make eight short system calls for a file hand the interpreter's lock around seven times a file;
measured on two cores with a cold disk, that cost as much CPU as the reading itself.

A unit: ``length u32``, then MessagePack [(position of the directory among the descriptors, name)]. A frame:
``length u32 | bytes of content u32 | last u32 | CPU us u32``, then MessagePack [Read], then the content back to back.
Both ends are of one version and on one machine, so nothing here is a format.
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

from livelift.walk.reading import Frame, Read, read_files

log = logging.getLogger(__name__)

_UNIT: Final = struct.Struct("<I")
_FRAME: Final = struct.Struct("<IIII")
_DIRECTORIES: Final = 128
"""Descriptors that go with one unit: half of what one message may carry (SCM_MAX_FD is 253, net/scm.h)."""
_BUFFER: Final = 2 << 20
_PIECES: Final = 512  # buffers in one sendmsg: half of IOV_MAX

_encode = msgspec.msgpack.Encoder().encode
_decode_unit = msgspec.msgpack.Decoder(list[tuple[int, bytes]]).decode
_decode_frame = msgspec.msgpack.Decoder(list[Read]).decode

_CHILD: Final = "import sys; sys.path[:] = {path!r}; from livelift.walk.remote import serve; serve({fds!r})"


class LaneLostError(OSError):
    """The reader process is gone."""


class Lane:
    """The agent's end of one lane; used by one thread. ``cpu``: seconds that the other end has used for us."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self.cpu = 0.0

    def read(self, names: Sequence[tuple[int, bytes]]) -> Iterator[Frame]:
        """As `read_files`. LaneLostError: the rest must be read otherwise."""
        places: dict[int, int] = {}
        wanted = [(places.setdefault(directory, len(places)), name) for directory, name in names]
        if len(places) > _DIRECTORIES:
            raise ValueError(f"{len(places)} directories in one unit")
        body = _encode(wanted)
        try:
            socket.send_fds(self._end, [_UNIT.pack(len(body))], list(places))
            self._end.sendall(body)
            last = 0
            while not last:
                length, size, last, used = _FRAME.unpack(_exactly(self._end, _FRAME.size))
                files = _decode_frame(_exactly(self._end, length))
                content = memoryview(_exactly(self._end, size)) if size else memoryview(b"")
                self.cpu += used / 1e6
                payloads: list[bytes | memoryview] = []
                at = 0
                for file in files:
                    if file.length:
                        payloads.append(content[at : at + file.length])
                        at += file.length
                yield Frame(files, payloads)
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
            frames = read_files([(directories[place], name) for place, name in names])
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
    body = _encode(frame.files)
    size = sum(map(len, frame.payloads))
    header = _FRAME.pack(len(body), size, last, min(int(used * 1e6), 0xFFFFFFFF))
    parts: list[bytes | memoryview] = [header, body, *frame.payloads]
    for at in range(0, len(parts), _PIECES):
        piece = parts[at : at + _PIECES]
        total = sum(map(len, piece))
        sent = end.sendmsg(piece)
        if sent < total:
            end.sendall(b"".join(piece)[sent:])


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
