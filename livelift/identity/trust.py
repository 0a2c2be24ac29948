"""Which certificates are accepted: TLS contexts, the check after the handshake, renewal.

`Trust` is what the transport knows as its gate (`livelift.transport.gate.Gate`).
"""

from __future__ import annotations

import datetime
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from livelift.errors import LiveliftError, StateError, TrustError, UnreachableError
from livelift.identity import ca
from livelift.identity.files import read_private
from livelift.identity.pairing import Desk
from livelift.protocol.messages import Peer, Role

_PAIR_AGAIN: Final = "pair the two machines again: livelift target --new-code, then livelift source --pair CODE"
_CLOCKS: Final = "compare the clocks of the two machines (date -u); if they are right, " + _PAIR_AGAIN


class Trust:
    """One agent's credentials in ``directory`` (made by pairing or by `issue`), and whom it accepts.

    ``now``: clock, aware datetime. ``desk``: set while this agent waits for a pairing. Threads may share it.
    """

    def __init__(self, directory: Path, now: Callable[[], datetime.datetime], desk: Desk | None = None) -> None:
        self._directory = directory
        self._now = now
        self._renewing: ec.EllipticCurvePrivateKey | None = None
        self._lock = threading.Lock()
        self.desk = desk
        self._load()

    def _load(self) -> None:
        leaf = read_private(self._directory / ca.LEAF)
        authority = read_private(self._directory / ca.CA_CERTIFICATE)
        try:
            self._key = ca.load_key(leaf)
            self._certificate = x509.load_pem_x509_certificate(leaf)
            self._authority = x509.load_pem_x509_certificate(authority)
        except ValueError as error:
            raise TrustError(f"certificates in {self._directory} cannot be read", remedy=_PAIR_AGAIN) from error
        self.me: Peer = ca.check_issued(self.certificate_der, self.authority_der, self._key.public_key())

    @property
    def certificate_der(self) -> bytes:
        return self._certificate.public_bytes(Encoding.DER)

    @property
    def authority_der(self) -> bytes:
        return self._authority.public_bytes(Encoding.DER)

    # The gate of the transport

    def client_context(self) -> ssl.SSLContext:
        """TrustError when our own certificate has expired: better said here than as the peer's alert."""
        until = self._certificate.not_valid_after_utc
        if self._now() >= until:
            raise TrustError(f"this machine's certificate expired on {until:%F %R} UTC", remedy=_CLOCKS)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # the certificate names job and role; addresses change in a migration
        return self._prepare(context, ssl.CERT_REQUIRED)

    def server_context(self) -> ssl.SSLContext:
        """While the desk is open a client without certificate gets through the handshake, to `pair` only."""
        desk = self.desk
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.num_tickets = 0
        return self._prepare(context, ssl.CERT_OPTIONAL if desk and desk.is_open else ssl.CERT_REQUIRED)

    def _prepare(self, context: ssl.SSLContext, verify: ssl.VerifyMode) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.options |= ssl.OP_NO_TICKET
        context.verify_mode = verify
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(cadata=self.authority_der)
        context.load_cert_chain(self._directory / ca.LEAF)
        return context

    def peer_of(self, connection: ssl.SSLSocket) -> Peer | None:
        """Who is there; None for a client without certificate. TrustError unless it is the other role of our job."""
        certificate = connection.getpeercert()
        if not certificate:
            return None
        names = certificate.get("subjectAltName", ())
        peer = ca.peer_of([str(entry[1]) for entry in names if entry[0] == "URI"])
        if peer.job != self.me.job:
            raise TrustError(f"the peer belongs to job {peer.job}, not to {self.me.job}", remedy=_PAIR_AGAIN)
        if peer.role == self.me.role:
            raise TrustError(f"the peer is a {peer.role}, as is this machine", remedy="check the address")
        return peer

    def pair(self, connection: ssl.SSLSocket) -> None:
        """Serve a client that showed no certificate."""
        desk = self.desk
        if desk is None:
            raise TrustError("this machine is not waiting for a pairing")
        desk.serve(connection, self.certificate_der)

    def explain(self, error: OSError, where: str) -> LiveliftError:
        """A failed handshake in our terms: TrustError for certificates, UnreachableError for the rest."""
        if isinstance(error, ssl.SSLCertVerificationError):
            # X509_V_ERR_CERT_NOT_YET_VALID 9, X509_V_ERR_CERT_HAS_EXPIRED 10 (openssl-verification-options(1))
            remedy = _CLOCKS if error.verify_code in (9, 10) else _PAIR_AGAIN
            return TrustError(f"{where}: {error.verify_message}", remedy=remedy)
        reason = getattr(error, "reason", None) or ""
        for alert, text, remedy in _ALERTS:
            if alert in reason:
                return TrustError(f"{where} refused this machine: {text}", remedy=remedy)
        return UnreachableError(f"{where}: {error}")

    # Renewal over the live channel: Renew(begin_renewal()) ... finish_renewal(Renewed.certificate)

    @property
    def is_due(self) -> bool:
        """Three days before the certificate expires."""
        return self._certificate.not_valid_after_utc - self._now() <= ca.RENEW_BEFORE

    def begin_renewal(self) -> bytes:
        """CSR (DER) for a new key."""
        with self._lock:
            self._renewing = ca.new_key()
            return ca.make_request(self._renewing)

    def finish_renewal(self, certificate_der: bytes) -> None:
        """Save it; connections made from now on use it. TrustError if it is not ours; the old one then stays."""
        with self._lock:
            if self._renewing is None:
                raise StateError("a renewed certificate that nobody asked for")
            peer = ca.check_issued(certificate_der, self.authority_der, self._renewing.public_key())
            if peer != self.me:
                raise TrustError(f"the renewed certificate is for {peer.role} of job {peer.job}")
            ca.save_leaf(self._directory, self._renewing, certificate_der, self.authority_der)
            self._renewing = None
            self._load()


def issue(authority: ca.Authority, role: Role, directory: Path, now: datetime.datetime) -> None:
    """Credentials made where the authority is: the target's own, or the source's when ssh carries them over."""
    key = ca.new_key()
    certificate = authority.sign(ca.make_request(key), role, now)
    ca.save_leaf(directory, key, certificate, authority.der)


# OpenSSL's names of the alerts (RFC 8446, 6.2), as Python shows them in SSLError.reason.
_ALERTS: Final = (
    ("CERTIFICATE_EXPIRED", "certificate expired", _CLOCKS),
    ("CERTIFICATE_REQUIRED", "it wants a certificate", _PAIR_AGAIN),
    ("UNKNOWN_CA", "certificate of another job's authority", _PAIR_AGAIN),
    ("BAD_CERTIFICATE", "bad certificate", _PAIR_AGAIN),
    ("CERTIFICATE_UNKNOWN", "unknown certificate", _PAIR_AGAIN),
    ("CERTIFICATE_REVOKED", "certificate revoked", _PAIR_AGAIN),
    ("DECRYPT_ERROR", "bad certificate signature", _PAIR_AGAIN),
)
