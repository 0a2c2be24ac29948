"""Open a channel: N + 2 TLS connections that the server joins by a random session id."""

from __future__ import annotations

import secrets
import socket
import ssl
from contextlib import ExitStack
from typing import Final

from livelift.errors import LiveliftError, TrustError, UnreachableError, VersionError, WireError
from livelift.protocol.messages import Fault, Flow, Join, Joined, Peer, negotiate
from livelift.transport import wire
from livelift.transport.channel import Channel, Lanes, Options
from livelift.transport.gate import Gate

CONTROL_UP: Final = 0
CONTROL_DOWN: Final = 1
FIRST_DATA: Final = 2
FIRST_MESSAGE: Final = 64 << 10
"""Longest Join, Joined or Fault while joining, in bytes."""


def flow_of(role_of_client: str) -> Flow:
    """Batches flow from the source to the target, whichever of the two is the TCP client."""
    return "up" if role_of_client == "source" else "down"


def connect(
    host: str,
    port: int,
    gate: Gate,
    lanes: int = 2,
    options: Options = Options(),  # noqa: B008 (immutable)
    timeout: float = 10.0,
) -> Channel:
    """The channel, ready for the first message (the source's Hello).

    ``timeout``: seconds for each connection. TrustError: certificates not accepted here or there. VersionError.
    UnreachableError: no answer, or none that is ours; try again later.
    """
    session = secrets.token_bytes(16)
    flow = flow_of(gate.me.role)
    with ExitStack() as undo:
        sockets: list[ssl.SSLSocket] = []
        peers: set[Peer] = set()
        for lane in range(FIRST_DATA + lanes):
            connection, peer = _open(host, port, gate, Join(session, lane, lanes, flow), timeout)
            undo.callback(connection.close)
            sockets.append(connection)
            peers.add(peer)
        if len(peers) != 1:
            raise TrustError(f"{host}:{port}: several machines answer under this address")
        data = sockets[FIRST_DATA:]
        up, down = (data, []) if flow == "up" else ([], data)
        joined = Lanes(sockets[CONTROL_UP], sockets[CONTROL_DOWN], up, down)
        channel = Channel(gate.me.role, peers.pop(), joined, options)
        undo.pop_all()
        return channel


def _open(host: str, port: int, gate: Gate, join: Join, timeout: float) -> tuple[ssl.SSLSocket, Peer]:
    where = f"{host}:{port}"
    context = gate.client_context()
    try:
        plain = socket.create_connection((host, port), timeout)
    except OSError as error:
        remedy = "is the agent running there, and the port open in the firewalls?"
        raise UnreachableError(f"{where}: {error}", remedy=remedy) from error
    with ExitStack() as undo:
        undo.callback(plain.close)
        try:
            connection = context.wrap_socket(plain)
            undo.callback(connection.close)
            peer = gate.peer_of(connection)
            if peer is None:
                raise TrustError(f"{where} shows no certificate")
            wire.exchange(connection, join)
            # TLS 1.3: only this read tells whether the server accepted our certificate.
            _check(wire.read_one(connection, FIRST_MESSAGE), where)
        except wire.HungUp as error:
            raise UnreachableError(f"{where}: it hung up") from error
        except OSError as error:
            raise gate.explain(error, where) from error
        undo.pop_all()
        return connection, peer


def _check(answer: object, where: str) -> None:
    if isinstance(answer, Joined):
        negotiate(answer.protocol, answer.version)
        return
    if not isinstance(answer, Fault):
        raise WireError(f"{where} answers with a {type(answer).__name__}")
    kinds: dict[str, type[LiveliftError]] = {TrustError.code: TrustError, VersionError.code: VersionError}
    raise kinds.get(answer.code, UnreachableError)(f"{where}: {answer.text}", remedy=answer.remedy)
