"""The proxy carries, counts, cuts, stalls and heals."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.oracle.proxy import TcpProxy


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that sends everything back, in capitals."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1 << 16):
                    connection.sendall(data.upper())
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    listener.close()


def connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def exchange(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    answer = b""
    while len(answer) < len(data):
        part = connection.recv(1 << 16)
        if not part:
            raise ConnectionResetError("end of stream")
        answer += part
    return answer


def test_it_carries_and_counts(echo: tuple[str, int]) -> None:
    with TcpProxy(echo) as proxy, connect(proxy) as one, connect(proxy) as two:
        assert exchange(one, b"a" * 300_000) == b"A" * 300_000
        assert exchange(two, b"b") == b"B"
        assert proxy.connections == 2
        assert (proxy.sent, proxy.received) == (300_001, 300_001)


def test_a_cut_link_breaks_at_once_and_heals(echo: tuple[str, int]) -> None:
    with TcpProxy(echo) as proxy:
        with connect(proxy) as one:
            exchange(one, b"x")
            proxy.cut()
            with pytest.raises(OSError):
                exchange(one, b"y" * 100_000)
        with pytest.raises(OSError), connect(proxy) as refused:
            exchange(refused, b"z")
        proxy.heal()
        with connect(proxy) as again:
            assert exchange(again, b"back") == b"BACK"


def test_a_stalled_link_loses_nothing(echo: tuple[str, int]) -> None:
    with TcpProxy(echo) as proxy, connect(proxy) as one:
        exchange(one, b"x")
        proxy.stall()
        one.settimeout(0.3)
        with pytest.raises(TimeoutError):
            exchange(one, b"later")
        proxy.heal()
        one.settimeout(5)
        assert one.recv(100) == b"LATER"


def test_closing_frees_the_port_while_connections_are_open(echo: tuple[str, int]) -> None:
    proxy = TcpProxy(echo)
    with connect(proxy) as one:
        exchange(one, b"x")
        proxy.close()
        with pytest.raises(OSError):
            exchange(one, b"y" * 100_000)
    socket.create_server(("127.0.0.1", proxy.port)).close()
