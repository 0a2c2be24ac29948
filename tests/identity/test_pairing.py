"""Pairing over real TLS on a socket pair's worth of loopback: right, wrong, used, expired, and a man in the middle."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from contextlib import ExitStack

import pytest

from livelift.errors import LiveliftError, TrustError, UnreachableError
from livelift.identity import pairing
from livelift.identity.ca import create_authority
from livelift.identity.code import normalise
from livelift.identity.pairing import CODE_LIFE, TRIES, Desk, pair, pairing_context
from livelift.identity.trust import Trust, issue
from livelift.protocol.messages import Peer
from livelift.protocol.pairing import PairGrant, PairHello, encode

CODE = "ABCDE-01234"
WRONG = "ZZZZZ-01234"


def now():
    return datetime.datetime.now(datetime.UTC)


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch):
    monkeypatch.setattr(pairing, "derive", lambda code, salt: b"key of " + normalise(code).encode() + salt)


class Office:
    """A desk behind a listening socket; serves one client after the other and keeps what went wrong."""

    def __init__(self, directory):
        authority = create_authority("ab12", now())
        issue(authority, "target", directory / "target", now())
        self.clock = 0.0
        self.desk = Desk(authority, lambda: self.clock, now, code=CODE)
        self.trust = Trust(directory / "target", now, self.desk)
        self.errors: list[LiveliftError] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.context = self.trust.server_context()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while True:
            try:
                plain, _ = self.socket.accept()
            except OSError:
                return
            with plain, self.context.wrap_socket(plain, server_side=True) as connection:
                connection.settimeout(5)
                assert self.trust.peer_of(connection) is None
                try:
                    self.trust.pair(connection)
                except LiveliftError as error:
                    self.errors.append(error)

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.socket.close()


@pytest.fixture
def office(tmp_path):
    office = Office(tmp_path)
    yield office
    office.close()


def test_right_code_gives_credentials_once(office, tmp_path):
    assert pair("127.0.0.1", office.port, " abcde oi234", "source", tmp_path / "s").peer == Peer("ab12", "source")
    assert Trust(tmp_path / "s", now).me == Peer("ab12", "source")
    assert office.desk.paired.is_set()
    assert not office.desk.is_open
    with pytest.raises(TrustError, match="has been used") as caught:
        pair("127.0.0.1", office.port, CODE, "source", tmp_path / "again")
    assert "--new-code" in str(caught.value)
    assert not (tmp_path / "again").exists()


def test_wrong_code_counts_down_to_void(office, tmp_path):
    for left in range(TRIES - 1, 0, -1):
        with pytest.raises(TrustError, match=f"wrong pairing code; {left} tries left"):
            pair("127.0.0.1", office.port, WRONG, "source", tmp_path / "s")
    with pytest.raises(TrustError, match="void now"):
        pair("127.0.0.1", office.port, WRONG, "source", tmp_path / "s")
    with pytest.raises(TrustError, match="void after too many"):
        pair("127.0.0.1", office.port, CODE, "source", tmp_path / "s")
    assert not (tmp_path / "s").exists()
    assert all(isinstance(error, TrustError) and error.exit_code == 9 for error in office.errors)


def test_mistyped_code_costs_no_try(office, tmp_path):
    with pytest.raises(TrustError, match="not a pairing code"):
        pair("127.0.0.1", office.port, "ABC", "source", tmp_path / "s")
    assert office.errors == []


def test_expired_code(office, tmp_path):
    office.clock = CODE_LIFE
    assert not office.desk.is_open
    with pytest.raises(TrustError, match="expired"):
        pair("127.0.0.1", office.port, CODE, "source", tmp_path / "s")


def test_wrong_role(office, tmp_path):
    with pytest.raises(TrustError, match="pairs with a source"):
        pair("127.0.0.1", office.port, CODE, "target", tmp_path / "s")


def test_many_guesses_at_once_get_five_tries_in_all(office, tmp_path):
    barrier = threading.Barrier(12)
    outcomes = []

    def guess():
        barrier.wait()
        try:
            pair("127.0.0.1", office.port, WRONG, "source", tmp_path / "s")
        except TrustError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=guess) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("wrong pairing code" in outcome for outcome in outcomes) == TRIES
    assert sum("void after" in outcome for outcome in outcomes) == 12 - TRIES


def test_man_in_the_middle_who_relays_is_noticed(office, tmp_path):
    """He shows his own certificate (he has no other key) and passes every byte on."""
    issue(create_authority("evil", now()), "target", tmp_path / "evil", now())
    theirs = Trust(tmp_path / "evil", now)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "evil" / "leaf.pem")
    assert theirs.me.job == "evil"
    listener = socket.create_server(("127.0.0.1", 0))

    def relay():
        plain, _ = listener.accept()
        with ExitStack() as stack:
            victim = stack.enter_context(context.wrap_socket(plain, server_side=True))
            stack.enter_context(plain)
            out = stack.enter_context(socket.create_connection(("127.0.0.1", office.port)))
            real = stack.enter_context(pairing_context().wrap_socket(out))
            for _ in range(2):  # question and answer, twice
                real.sendall(victim.recv(20_000))
                victim.sendall(real.recv(20_000))

    thread = threading.Thread(target=relay)
    thread.start()
    with pytest.raises(TrustError, match="wrong pairing code"):
        pair("127.0.0.1", listener.getsockname()[1], CODE, "source", tmp_path / "s")
    thread.join()
    listener.close()
    assert not office.desk.paired.is_set()
    assert not (tmp_path / "s").exists()


def test_server_that_does_not_know_the_code_is_noticed(office, tmp_path, monkeypatch):
    real = pairing._mac

    def guessing(key, label, *parts):
        forged = label == b"server" and threading.current_thread() is office.thread
        return real(b"guess" if forged else key, label, *parts)

    monkeypatch.setattr(pairing, "_mac", guessing)
    with pytest.raises(TrustError, match="without knowing it"):
        pair("127.0.0.1", office.port, CODE, "source", tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_garbage_and_wrong_order_are_refused_without_a_try(office):
    for first in (b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x01\xc1", encode(PairGrant(b"", b"", bytes(32)))):
        plain = socket.create_connection(("127.0.0.1", office.port))
        with plain, pairing_context().wrap_socket(plain) as client:
            client.sendall(first)
            assert client.recv(1000) != encode(PairHello("source", bytes(32)))
    assert office.desk.is_open
    assert office.desk._tries == TRIES


def test_nobody_there(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(UnreachableError, match="livelift target"):
        pair("127.0.0.1", port, CODE, "source", tmp_path / "s")
