"""The listening side: who gets in, and which connections belong together.

Nothing of what a client sends is parsed before its certificate was verified, except in a pairing, which the gate
serves. Strangers are kept cheap: few handshakes at a time, each with a deadline, and never any answer in clear.
"""

from __future__ import annotations

import errno
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from livelift.errors import LiveliftError, TrustError, UnreachableError, WireError
from livelift.protocol.messages import Fault, Join, Joined, Peer, negotiate
from livelift.transport import wire
from livelift.transport.channel import Channel, Lanes, Options
from livelift.transport.client import CONTROL_DOWN, CONTROL_UP, FIRST_DATA, FIRST_MESSAGE, flow_of
from livelift.transport.gate import Gate

log = logging.getLogger(__name__)

GREETINGS: Final = 32
"""Handshakes and pairings at a time; a channel of 8 lanes needs one after the other."""
GATHERINGS: Final = 8
"""Channels of which not all connections have come yet."""


class _Gathering(NamedTuple):
    peer: Peer
    join: Join
    deadline: float
    sockets: dict[int, ssl.SSLSocket]


class _Accepted(ssl.SSLSocket):
    """Closes itself when its client has gone while it was made: SSLSocket's own way out of there leaves the descriptor
    open until it is collected (CPython 3.11 to 3.13, Lib/ssl.py, `_create` after `getpeername`)."""

    made = False

    def getpeername(self) -> object:
        try:
            return super().getpeername()
        except OSError as error:
            if self.made:
                raise
            self.close()
            raise ConnectionAbortedError(errno.ECONNABORTED, "it hung up before the handshake") from error


class Listener:
    """Listens as soon as it is made. ``on_channel`` gets every complete channel, in a thread of its own.

    ``host`` "" or "::" takes IPv6 and IPv4. ``patience``: seconds that a client has for handshake and joining.
    UnreachableError: the address cannot be bound.
    """

    def __init__(
        self,
        host: str,
        port: int,
        gate: Gate,
        on_channel: Callable[[Channel], None],
        options: Options = Options(),  # noqa: B008 (immutable)
        patience: float = 15.0,
    ) -> None:
        self._gate = gate
        self._on_channel = on_channel
        self._options = options
        self._patience = patience
        self._lock = threading.Lock()
        self._greeting: dict[socket.socket, float] = {}
        self._gathering: dict[bytes, _Gathering] = {}
        self._closed = threading.Event()
        try:
            self._socket = _bind(host, port)
        except OSError as error:
            raise UnreachableError(f"port {port} on {host or 'this machine'}: {error}") from error
        self._socket.settimeout(0.5)
        self._thread = threading.Thread(target=self._accept, name="listener", daemon=True)
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    def close(self) -> None:
        """Stop listening, drop what is not yet a channel. Channels live on."""
        with self._lock:
            self._closed.set()
        wire.shut(self._socket)  # wakes accept
        self._thread.join()
        self._socket.close()
        self._expire(float("inf"))

    def _accept(self) -> None:
        while not self._closed.is_set():
            self._expire(time.monotonic())
            try:
                plain, address = self._socket.accept()
            except TimeoutError:
                continue
            except OSError as error:
                if self._closed.is_set():
                    return
                # ECONNABORTED, EMFILE and the like pass (accept(2)); a short rest keeps them from filling the log.
                log.warning("accept: %s", error)
                time.sleep(0.2)
                continue
            with self._lock:
                room = len(self._greeting) < GREETINGS
                if room:
                    self._greeting[plain] = time.monotonic() + self._patience
            if not room:
                log.warning("%s turned away: %d others are at the door", address[0], GREETINGS)
                plain.close()
                continue
            threading.Thread(target=self._greet, args=(plain, str(address[0])), name="greeting", daemon=True).start()

    def _greet(self, plain: socket.socket, where: str) -> None:
        complete: _Gathering | None = None
        try:
            complete = self._admit(plain, where)
        except (LiveliftError, wire.HungUp, OSError) as error:
            log.warning("%s refused: %s", where, error.args[0] if isinstance(error, LiveliftError) else error)
        finally:
            with self._lock:
                self._greeting.pop(plain, None)
        if complete:
            self._on_channel(self._assemble(complete))

    def _admit(self, plain: socket.socket, where: str) -> _Gathering | None:
        """The gathering that this connection completes, if it does. Closes the connection unless it is kept."""
        connection: ssl.SSLSocket | None = None
        kept = False
        try:
            plain.settimeout(self._patience)
            connection = _wrapped(plain, self._gate.server_context())
            with self._lock:
                # wrap_socket has taken the descriptor over; the deadline goes with it.
                self._greeting[connection] = self._greeting.pop(plain, 0.0)
            try:
                connection.do_handshake()
            except OSError as error:
                raise self._gate.explain(error, where) from error
            peer = self._gate.peer_of(connection)
            if peer is None:
                self._gate.pair(connection)
                log.info("%s paired", where)
                return None
            join = wire.read_one(connection, FIRST_MESSAGE)
            if not isinstance(join, Join):
                raise WireError(f"it began with a {type(join).__name__}")
            negotiate(join.protocol, join.version)
            gathering = self._gather(peer, join, connection)
            kept = True
            return gathering
        except LiveliftError as error:
            if connection and not isinstance(error, UnreachableError):
                _tell(connection, error)
            raise
        finally:
            with self._lock:
                self._greeting.pop(connection or plain, None)
            if not kept:
                _hang_up(connection or plain)

    def _gather(self, peer: Peer, join: Join, connection: ssl.SSLSocket) -> _Gathering | None:
        if join.flow != flow_of(peer.role) or join.lane >= FIRST_DATA + join.lanes:
            raise WireError(f"lane {join.lane} of {join.lanes} flowing {join.flow} from a {peer.role}")
        with self._lock:
            found = self._gathering.get(join.session)
            if self._closed.is_set() or (found is None and len(self._gathering) >= GATHERINGS):
                raise UnreachableError("the listener: too many channels are being opened")
            if found is None:
                found = _Gathering(peer, join, time.monotonic() + 2 * self._patience, {})
                self._gathering[join.session] = found
            if found.peer != peer or found.join.lanes != join.lanes or join.lane in found.sockets:
                raise TrustError("a connection that does not fit the channel it names")
            found.sockets[join.lane] = connection
            complete = len(found.sockets) == FIRST_DATA + join.lanes
            if complete:
                del self._gathering[join.session]
        try:
            wire.exchange(connection, Joined())
        except OSError:
            if not complete:
                raise
            log.debug("the last lane broke at once; the channel will find out")
        return found if complete else None

    def _assemble(self, complete: _Gathering) -> Channel:
        sockets = complete.sockets
        data = [sockets[lane] for lane in range(FIRST_DATA, FIRST_DATA + complete.join.lanes)]
        out, into = ([], data) if complete.join.flow == "up" else (data, [])
        lanes = Lanes(sockets[CONTROL_DOWN], sockets[CONTROL_UP], out, into)
        return Channel(self._gate.me.role, complete.peer, lanes, self._options)

    def _expire(self, now: float) -> None:
        with self._lock:
            for connection, deadline in self._greeting.items():
                if deadline < now:
                    wire.shut(connection)  # its thread wakes and closes it
            late = [session for session, gathering in self._gathering.items() if gathering.deadline < now]
            for session in late:
                for connection in self._gathering.pop(session).sockets.values():
                    connection.close()


def _wrapped(plain: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    """``plain`` is closed if this fails: OSError."""
    context.sslsocket_class = _Accepted
    connection = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
    assert isinstance(connection, _Accepted)
    connection.made = True
    return connection


def _bind(host: str, port: int) -> socket.socket:
    if host in ("", "::") and socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=64)


def _tell(connection: ssl.SSLSocket, error: LiveliftError) -> None:
    """A verified peer, or one whose certificate is of another role or job, hears why. Best effort."""
    if connection.version() is None or connection.getpeercert() is None:
        return
    with suppress(OSError):
        wire.exchange(connection, Fault(error.code, str(error.args[0])[:1000], error.remedy[:1000]))


def _hang_up(connection: socket.socket) -> None:
    """Close so that what was written last (a TLS alert, a Fault) arrives: unread input would turn the close into a
    reset, which discards it at the other end (RFC 1122, 4.2.2.13)."""
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_WR)
        connection.settimeout(0.5)
        for _ in range(64):
            if not socket.socket.recv(connection, 16 << 10):
                break
    connection.close()
