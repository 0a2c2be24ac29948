"""Who gets in: real TLS on loopback."""

from __future__ import annotations

import datetime
import gc
import os
import socket
import ssl
import struct
import time
import warnings

import pytest

from livelift.errors import TrustError, UnreachableError, VersionError
from livelift.identity.ca import BACKDATE, LEAF, create_authority
from livelift.identity.pairing import Desk, pair
from livelift.identity.trust import Trust, issue
from livelift.protocol import frames, messages
from livelift.protocol.messages import Fault, Hello, Join, Peer
from livelift.transport import server, wire
from livelift.transport.client import connect


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)



def test_both_ends_know_each_other(world):
    source, target = world.join(2)
    assert (source.peer, target.peer) == (Peer("5eed", "target"), Peer("5eed", "source"))


def test_target_may_be_the_client(world, tmp_path):
    """Batches flow from source to target whichever of the two listens."""
    listener = server.Listener("127.0.0.1", 0, world.source, world.channels.put)
    target = connect(*listener.address, world.target)
    source = world.channels.get(timeout=5)
    source.send(Hello("source", "5eed", (), 0, 1))
    assert isinstance(target.receive(5), Hello)
    source.close()
    target.close()
    listener.close()


def stranger(world, name, authority=None, role="source", when=None):
    directory = world.directory / name
    issue(authority or world.authority, role, directory, when or now())
    # A clock that never complains: the listener is what is tested, not our own check.
    return Trust(directory, lambda: when or now())


def test_foreign_authority_is_refused_by_both(world):
    listener = world.listen()
    foreign = stranger(world, "foreign", create_authority("5eed", now()))
    with pytest.raises(TrustError, match="pair the two machines again"):
        connect(*listener.address, foreign)
    # A client that trusts everybody gets no further: the listener refuses it.
    context = foreign.client_context()
    context.verify_mode = ssl.CERT_NONE
    assert "UNKNOWN_CA" in refusal(listener, context)


def test_expired_certificate(world):
    listener = world.listen()
    past = now() - datetime.timedelta(days=30)
    expired = stranger(world, "expired", when=past)
    with pytest.raises(TrustError, match="certificate expired") as caught:
        connect(*listener.address, expired)
    assert "clocks" in str(caught.value)
    assert caught.value.exit_code == 9


def test_certificate_of_the_future(world):
    listener = world.listen()
    future = now() + BACKDATE + datetime.timedelta(days=1)
    early = stranger(world, "early", when=future)
    with pytest.raises(TrustError):
        connect(*listener.address, early)


def test_two_sources_do_not_talk(world):
    listener = server.Listener("127.0.0.1", 0, stranger(world, "other"), world.channels.put)
    with pytest.raises(TrustError, match="is a source, as is this machine"):
        connect(*listener.address, world.source)
    listener.close()


def test_certificate_of_another_job_under_one_authority(world):
    other = stranger(world, "job", world.authority._replace(job="0ther"))
    with pytest.raises(TrustError, match="belongs to job"):
        connect(*world.listen().address, other)


def refusal(listener, context) -> str:
    """What a client of this context gets for its Join, as the name of a TLS alert or of an exception."""
    with socket.create_connection(listener.address) as plain:
        plain.settimeout(5)
        try:
            with context.wrap_socket(plain) as client:
                wire.exchange(client, Join(b"s" * 16, 0, 1, "up"))
                return repr(wire.read_one(client, 1 << 16))
        except ssl.SSLError as error:
            return str(error.reason)
        except (OSError, wire.HungUp) as error:
            return type(error).__name__


def anonymous(**settings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for name, value in settings.items():
        setattr(context, name, value)
    return context


def test_no_certificate(world):
    assert refusal(world.listen(), anonymous()) == "TLSV13_ALERT_CERTIFICATE_REQUIRED"


def test_tls_1_2(world):
    context = anonymous(maximum_version=ssl.TLSVersion.TLSv1_2)
    context.load_cert_chain(world.directory / "source" / LEAF)
    assert "PROTOCOL_VERSION" in refusal(world.listen(), context)


def test_clear_text_gets_nothing_but_an_alert_and_others_are_served(world):
    listener = world.listen()
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 500, frames.message_header(5, 0) + b"hello"):
        with socket.create_connection(listener.address) as plain:
            plain.settimeout(5)
            plain.sendall(garbage)
            try:
                answer = plain.recv(1000)
            except ConnectionResetError:
                answer = b""
            assert answer == b"" or answer[0] == 21  # a TLS alert record
    connect(*listener.address, world.source).close()


def test_silent_clients_do_not_keep_the_door_shut(world, monkeypatch):
    monkeypatch.setattr(server, "GREETINGS", 2)
    listener = world.listen(patience=0.5)
    silent = [socket.create_connection(listener.address) for _ in range(2)]
    began = time.monotonic()
    while True:
        try:
            channel = connect(*listener.address, world.source)
            break
        except UnreachableError:
            assert time.monotonic() - began < 5
            time.sleep(0.1)
    channel.close()
    for client in silent:
        client.close()


def joined(world, listener, *joins):
    """Connections of the source's certificate, each with a Join, and what came back."""
    answers = []
    kept = []
    for join in joins:
        connection = world.source.client_context().wrap_socket(socket.create_connection(listener.address))
        wire.exchange(connection, join)
        answers.append(wire.read_one(connection, 1 << 16))
        kept.append(connection)
    for connection in kept:
        connection.close()
    return answers


@pytest.mark.parametrize(
    "join",
    [
        Join(b"s" * 16, 3, 1, "up"),  # lane beyond their number
        Join(b"s" * 16, 0, 1, "down"),  # a source does not receive batches
        Hello("source", "5eed", (), 0, 1),
    ],
)
def test_first_message_that_does_not_fit(world, join):
    (answer,) = joined(world, world.listen(), join)
    assert isinstance(answer, Fault)
    assert answer.code == "wire"


def test_lane_taken_twice(world):
    answers = joined(world, world.listen(), Join(b"s" * 16, 0, 1, "up"), Join(b"s" * 16, 0, 1, "up"))
    assert isinstance(answers[1], Fault)


def test_other_protocol_major(world, monkeypatch):
    listener = world.listen()
    (answer,) = joined(world, listener, Join(b"s" * 16, 0, 1, "up", protocol=(99, 0), version="9.0"))
    assert isinstance(answer, Fault)
    assert answer.code == "version"
    monkeypatch.setattr(server, "Joined", lambda: messages.Joined((99, 0), "9.0"))
    with pytest.raises(VersionError, match="same Livelift release"):
        connect(*listener.address, world.source)


def test_incomplete_channels_are_dropped(world):
    listener = world.listen(patience=0.2)
    connection = world.source.client_context().wrap_socket(socket.create_connection(listener.address))
    wire.exchange(connection, Join(b"s" * 16, 0, 1, "up"))
    assert isinstance(wire.read_one(connection, 1 << 16), messages.Joined)
    connection.settimeout(5)
    assert connection.recv(1) == b""
    connection.close()
    assert world.channels.empty()


def test_pairing_then_channel_through_one_port(world, tmp_path):
    desk = Desk(world.authority, time.monotonic, now)
    world.target.desk = desk
    listener = world.listen()
    assert refusal(listener, anonymous()) != "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert pair(*listener.address, desk.code, "source", tmp_path / "new").peer == Peer("5eed", "source")
    channel = connect(*listener.address, Trust(tmp_path / "new", now))
    channel.close()
    with pytest.raises(TrustError, match="waits for no pairing"):
        pair(*listener.address, desk.code, "source", tmp_path / "second")


def test_port_in_use(world):
    host, port = world.listen().address
    with pytest.raises(UnreachableError, match=str(port)):
        server.Listener(host, port, world.target, world.channels.put)


def test_nobody_listens(world):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(UnreachableError, match="firewall"):
        connect("127.0.0.1", port, world.source)


def test_client_that_resets_at_once(world):
    listener = world.listen()
    for _ in range(5):
        client = socket.create_connection(listener.address)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    connect(*listener.address, world.source).close()


def test_a_client_that_is_gone_before_the_handshake_leaves_no_descriptor():
    """It was found gone in the middle of making the TLS socket; the warning met whatever test ran then."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        client = socket.create_connection(door.getsockname())
        plain, _ = door.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an end
        client.close()
        descriptor = plain.fileno()
        deadline = time.monotonic() + 10
        while not is_reset(plain) and time.monotonic() < deadline:
            time.sleep(0.001)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            with pytest.raises(ConnectionAbortedError):
                server._wrapped(plain, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            gc.collect()
        assert not seen
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def is_reset(plain: socket.socket) -> bool:
    try:
        plain.getpeername()
        return False
    except OSError:
        return True
