"""A TCP proxy that counts what passes and can be cut, stalled and healed at any moment."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s: close(2) sends RST, as a broken link does


class TcpProxy:
    """``127.0.0.1:port`` leads to ``upstream`` (host, port). Use as a context manager.

    ``sent`` and ``received``: bytes carried towards and from upstream since the beginning, payload of TCP only.
    """

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.upstream = upstream
        self.sent = 0
        self.received = 0
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._ended: dict[socket.socket, socket.socket] = {}
        self._down = False
        self._running = threading.Event()  # clear: nothing is forwarded, nothing is closed
        self._running.set()
        self._stopped = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self) -> None:
        """Break every connection (RST on both sides) and refuse new ones until `heal`."""
        with self._lock:
            self._down = True
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            self._abort(*pair)

    def stall(self) -> None:
        """Carry nothing, close nothing: a link that lost its route. Ends with `heal`."""
        self._running.clear()

    def heal(self) -> None:
        self._down = False
        self._running.set()

    def close(self) -> None:
        self._stopped = True
        self.cut()
        self._running.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(2); close(2) alone does not
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def __enter__(self) -> TcpProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _abort(self, *sockets: socket.socket) -> None:
        for one in sockets:
            with contextlib.suppress(OSError):  # gone already: that is what was wanted
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._stopped:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            if self._down or self._stopped:
                self._abort(client)
                client.close()
                continue
            try:
                server = socket.create_connection(self.upstream, timeout=5)
            except OSError:
                self._abort(client)
                client.close()
                continue
            server.settimeout(None)
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.connections += 1
                self._pairs.append((client, server))
            for way in ((client, server, True), (server, client, False)):
                thread = threading.Thread(target=self._carry, args=way, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _carry(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        """One direction of one connection: a thread each, so that neither can block the other."""
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 18):
                while not self._running.wait(0.5):
                    if self._stopped:
                        break
                if up:
                    self.sent += len(data)
                else:
                    self.received += len(data)
                sink.sendall(data)
        self._abort(source, sink)
        with self._lock:
            self._pairs = [pair for pair in self._pairs if source not in pair]
            self._ended[source] = sink
            if self._ended.get(sink) is source:  # both directions are over
                del self._ended[source], self._ended[sink]
                source.close()
                sink.close()
