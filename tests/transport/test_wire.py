from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livelift.errors import WireError
from livelift.protocol import frames
from livelift.protocol.messages import Bye, Status
from livelift.transport import wire


@given(st.lists(st.integers(0, 40_000), max_size=40))
def test_pieces_are_the_same_bytes_and_large_ones_are_not_copied(sizes):
    parts = [bytes([n % 256]) * size for n, size in enumerate(sizes)]
    out = list(wire.pieces(b"header", parts))
    assert b"".join(out) == b"header" + b"".join(parts)
    for part in parts:
        if len(part) >= wire.JOINED_BELOW:
            assert any(piece is part for piece in out)
    assert all(len(piece) < wire.JOINED_TO + wire.JOINED_BELOW or any(piece is part for part in parts) for piece in out)


def test_many_small_parts_become_few():
    assert len(list(wire.pieces(b"h", [b"x" * 1024] * 1024))) == 4


@pytest.fixture
def pair():
    one, other = socket.socketpair()
    yield one, other
    one.close()
    other.close()


def test_grain_cuts_and_paces(pair):
    one, other = pair
    paced = []
    wire.send_all(one, iter([b"x" * 25, b"y"]), 10, paced.append)
    assert paced == [10, 10, 5, 1]
    assert other.recv(100) == b"x" * 25 + b"y"


def test_end_of_stream_inside_and_between(pair):
    one, other = pair
    one.sendall(b"abc")
    one.shutdown(socket.SHUT_WR)
    with pytest.raises(wire.HungUp, match="middle"):
        wire.read_into(other, memoryview(bytearray(5)))
    with pytest.raises(wire.HungUp, match="closed"):
        wire.read_header(other, bytearray(48))


def test_first_message_is_limited(pair):
    one, other = pair
    wire.exchange(one, Bye("x"))
    assert wire.read_one(other, 100) == Bye("x")
    wire.exchange(one, Status(b"x" * 200))
    with pytest.raises(WireError, match="first message"):
        wire.read_one(other, 100)


def test_first_frame_must_be_a_message(pair):
    one, other = pair
    one.sendall(frames.build(frames.Header(frames.FrameKind.BATCH, 0, 0, 1, 1, 5, 5, 0, 0)))
    with pytest.raises(WireError, match="batch on a control"):
        wire.read_one(other, 100)


@pytest.fixture
def tcp():
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    yield one, other
    one.close()
    other.close()


def test_options_of_control_and_data_lanes(tcp):
    one, other = tcp
    wire.tune(one, 20.0, control=True)
    wire.tune(other, 20.0, control=False)
    assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
    assert other.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0  # a closed window is no death
    for connection in tcp:
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_receiver_that_does_not_read_shows_as_limiting_not_as_dead(tcp):
    one, other = tcp
    one.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            one.send(bytes(1 << 20))
    threading.Event().wait(0.3)
    assert wire.receiver_limited(one) > 0.1
    threading.Event().wait(1.0)
    assert not wire.is_suspect(one, 0.05)  # however long: probes come ever more rarely
    other.recv(1)


def test_nothing_is_said_of_closed_sockets():
    closed = socket.socket()
    closed.close()
    wire.shut(closed)
    assert not wire.is_suspect(closed, 1)
    assert wire.receiver_limited(closed) == 0.0
