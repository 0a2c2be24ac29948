"""Pairing: a certificate for the machine whose operator knows the one-time code. Both ends, over TLS that nobody has
authenticated yet. The messages and what they prove are described in `livelift.protocol.pairing`.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import secrets
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from livelift.errors import LiveliftError, TrustError, UnreachableError, VersionError, WireError
from livelift.identity import ca
from livelift.identity.code import derive, new_code, normalise
from livelift.model.job import Map
from livelift.protocol.messages import Peer, Role, negotiate
from livelift.protocol.pairing import (
    PairChallenge,
    PairDenied,
    PairGrant,
    PairHello,
    PairMessage,
    PairProof,
    decode,
    encode,
    length_of,
    transcript,
)

CODE_LIFE: Final = 15 * 60.0
TRIES: Final = 5
TIMEOUT: Final = 15.0
T = TypeVar("T", PairChallenge, PairGrant)
_NEW_CODE: Final = "make a new code on the target: livelift target --new-code"


class Desk:
    """The target's side: one code, five tries, one certificate. Threads may call ``serve`` at once.

    ``monotonic`` and ``now`` are clocks (seconds; aware datetime). scrypt runs once, here, not per client: so strangers
    cannot make this machine compute.
    """

    def __init__(
        self,
        authority: ca.Authority,
        monotonic: Callable[[], float],
        now: Callable[[], datetime.datetime],
        role: Role = "source",
        code: str = "",
        maps: tuple[Map, ...] = (),
    ) -> None:
        self.code: Final = code or new_code()
        self.paired: Final = threading.Event()
        self._authority = authority
        self._monotonic = monotonic
        self._now = now
        self._role = role
        self._maps = maps
        self._salt = secrets.token_bytes(32)
        self._key = derive(self.code, self._salt)
        self._deadline = monotonic() + CODE_LIFE
        self._tries = TRIES
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        return not self.paired.is_set() and self._tries > 0 and self._monotonic() < self._deadline

    def serve(self, connection: ssl.SSLSocket, own_certificate: bytes) -> None:
        """Pair the client at the other end. ``own_certificate``: the DER that this server has shown in the handshake.

        TrustError says why it failed; the client has been told. UnreachableError: it went away.
        """
        try:
            self._serve(connection, own_certificate)
        except LiveliftError as error:
            if not isinstance(error, UnreachableError):
                _deny(connection, error)
            raise

    def _serve(self, connection: ssl.SSLSocket, own_certificate: bytes) -> None:
        self._check_open()
        hello = _receive(connection)
        if not isinstance(hello, PairHello):
            raise WireError("pairing did not begin with a greeting")
        negotiate(hello.protocol, hello.version)
        if hello.role != self._role:
            raise TrustError(f"this machine pairs with a {self._role}, not with a {hello.role}")
        nonce = secrets.token_bytes(32)
        job = self._authority.job
        _send(connection, PairChallenge(job, self._salt, nonce))
        proof = _receive(connection)
        if not isinstance(proof, PairProof):
            raise WireError("pairing went on without a proof")
        bound = (hello.role.encode(), job.encode(), proof.csr, _digest(own_certificate), hello.nonce, nonce)
        with self._lock:
            self._check_open()
            if not hmac.compare_digest(proof.mac, _mac(self._key, b"client", *bound)):
                self._tries -= 1
                left = f"{self._tries} tries left" if self._tries else "the code is void now"
                remedy = "read the code again on the target's screen" if self._tries else _NEW_CODE
                raise TrustError(f"wrong pairing code; {left}", remedy=remedy)
            certificate = self._authority.sign(proof.csr, hello.role, self._now())
            self.paired.set()
        ca_der = self._authority.der
        mac = _mac(self._key, b"server", *bound, certificate, ca_der)
        _send(connection, PairGrant(certificate, ca_der, mac, self._maps))

    def _check_open(self) -> None:
        if self.paired.is_set():
            raise TrustError("the pairing code has been used", remedy=_NEW_CODE)
        if self._tries <= 0:
            raise TrustError("the pairing code is void after too many wrong tries", remedy=_NEW_CODE)
        if self._monotonic() >= self._deadline:
            raise TrustError("the pairing code has expired", remedy=_NEW_CODE)


class Paired(NamedTuple):
    """Who we are now, and the lines of the job, if the target told them."""

    peer: Peer
    maps: tuple[Map, ...]


def pair(host: str, port: int, code: str, role: Role, directory: Path, timeout: float = TIMEOUT) -> Paired:
    """The source's side: make a key, prove the code, save certificate and CA in ``directory``.

    TrustError: wrong, used, expired code, or a server that does not know the code either. UnreachableError: no server.
    """
    normalise(code)  # a mistyped code should not cost one of the tries
    try:
        plain = socket.create_connection((host, port), timeout)
    except OSError as error:
        remedy = "is livelift target running there, and the port open?"
        raise UnreachableError(f"{host}:{port}: {error}", remedy=remedy) from error
    with plain:
        try:
            with pairing_context().wrap_socket(plain) as connection:
                return _prove(connection, code, role, directory)
        except OSError as error:  # ssl.SSLError is one
            raise _broken(error) from error


def pairing_context() -> ssl.SSLContext:
    """TLS 1.3 with whoever is there: the code, not the certificate, tells who it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _prove(connection: ssl.SSLSocket, code: str, role: Role, directory: Path) -> Paired:
    shown = connection.getpeercert(binary_form=True)
    if not shown:
        raise TrustError("the other side shows no certificate")
    nonce = secrets.token_bytes(32)
    _send(connection, PairHello(role, nonce))
    challenge = _expect(connection, PairChallenge)
    key = ca.new_key()
    csr = ca.make_request(key)
    secret = derive(code, challenge.salt)
    bound = (role.encode(), challenge.job.encode(), csr, _digest(shown), nonce, challenge.nonce)
    _send(connection, PairProof(csr, _mac(secret, b"client", *bound)))
    grant = _expect(connection, PairGrant)
    if not hmac.compare_digest(grant.mac, _mac(secret, b"server", *bound, grant.certificate, grant.ca)):
        remedy = "somebody may sit between the two machines: check the address, then make a new code on the target"
        raise TrustError("the other side accepted the pairing code without knowing it", remedy=remedy)
    peer = ca.check_issued(grant.certificate, grant.ca, key.public_key())
    if peer != Peer(challenge.job, role):
        raise TrustError(f"the certificate is for {peer.role} of job {peer.job}, not for {role} of {challenge.job}")
    ca.save_leaf(directory, key, grant.certificate, grant.ca)
    return Paired(peer, grant.maps)


def _mac(key: bytes, label: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, transcript(label, *parts), "sha256")


def _digest(certificate: bytes) -> bytes:
    return hashlib.sha256(certificate).digest()


def _expect(connection: ssl.SSLSocket, kind: type[T]) -> T:
    message = _receive(connection)
    if isinstance(message, PairDenied):
        # The text comes from somebody not yet authenticated: shown, but short and without control characters.
        denied: type[LiveliftError] = VersionError if message.code == VersionError.code else TrustError
        raise denied(_printable(message.text), remedy=_printable(message.remedy))
    if not isinstance(message, kind):
        raise WireError(f"a {type(message).__name__} instead of a {kind.__name__}")
    return message


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:300])


def _deny(connection: ssl.SSLSocket, error: LiveliftError) -> None:
    text = str(error.args[0]) if error.args else error.code
    try:
        _send(connection, PairDenied(error.code, text[:1000], error.remedy[:1000]))
    except UnreachableError:
        pass  # it has gone; the caller reports the error itself


def _broken(error: OSError) -> LiveliftError:
    """A target that waits for no pairing wants a certificate (alert 116, RFC 8446) already in the handshake."""
    if "CERTIFICATE_REQUIRED" in (getattr(error, "reason", None) or ""):
        text = "the target waits for no pairing: the code was used, has expired or is void"
        return TrustError(text, remedy=_NEW_CODE)
    remedy = "is it livelift target that listens there?"
    return UnreachableError(f"the other side of the pairing: {error}", remedy=remedy)


def _send(connection: ssl.SSLSocket, message: PairMessage) -> None:
    try:
        connection.sendall(encode(message))
    except OSError as error:
        raise _broken(error) from error


def _receive(connection: ssl.SSLSocket) -> PairMessage:
    return decode(_exactly(connection, length_of(_exactly(connection, 4))))


def _exactly(connection: ssl.SSLSocket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        try:
            part = connection.recv(size - len(data))
        except OSError as error:
            raise _broken(error) from error
        if not part:
            raise UnreachableError("the other side of the pairing: it hung up")
        data += part
    return data
