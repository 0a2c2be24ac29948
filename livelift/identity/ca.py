"""The certificate authority of one job, and the certificates that it signs.

ECDSA on P-256 with SHA-256: Ed25519 is refused by OpenSSL in FIPS mode (RHEL 8 and 9). A leaf names the job and
the role in one URI (``livelift:JOB/ROLE``); nothing else in it is trusted. The authority's key never leaves the target.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from livelift.errors import TrustError
from livelift.identity.files import read_private, write_private
from livelift.protocol.messages import Peer, Role

CA_LIFE: Final = datetime.timedelta(days=90)
LEAF_LIFE: Final = datetime.timedelta(days=7)
RENEW_BEFORE: Final = datetime.timedelta(days=3)
BACKDATE: Final = datetime.timedelta(days=1)
"""Old servers' clocks are often wrong; a certificate starts a day early so that a slow clock does not refuse it."""

CA_KEY: Final = "ca-key.pem"
CA_CERTIFICATE: Final = "ca.pem"
LEAF: Final = "leaf.pem"


class Authority(NamedTuple):
    """The job's CA: its private key and its own certificate."""

    job: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def sign(self, csr_der: bytes, role: Role, now: datetime.datetime) -> bytes:
        """Certificate (DER) for the key of this request. Its names are ignored: the role is what the caller says.

        TrustError: not a request, wrong signature (no proof that its sender holds the key), or a key other than P-256.
        """
        try:
            csr = x509.load_der_x509_csr(csr_der)
            key = csr.public_key()
            if not csr.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey):
                raise TrustError("certificate request with a bad signature or key")
        except (ValueError, TypeError) as error:  # cryptography: malformed DER, unsupported key
            raise TrustError(f"malformed certificate request: {error}") from error
        if key.curve.name != "secp256r1":
            raise TrustError(f"certificate request for a key on {key.curve.name}, not P-256")
        certificate = self._certify(key, Peer(self.job, role), now)
        return certificate.public_bytes(Encoding.DER)

    def _certify(
        self, key: ec.EllipticCurvePublicKey, peer: Peer, now: datetime.datetime
    ) -> x509.Certificate:
        end = min(now + LEAF_LIFE, self.certificate.not_valid_after_utc)
        if end <= now:
            raise TrustError(f"the authority of job {self.job} has expired", remedy="start a new job and pair again")
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        return (
            x509.CertificateBuilder()
            .subject_name(_name(f"livelift {peer.role}"))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri_of(peer))]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .sign(self.key, hashes.SHA256())
        )

    def save(self, directory: Path) -> None:
        certificate = self.certificate.public_bytes(Encoding.PEM)
        write_private(directory, {CA_KEY: _key_pem(self.key), CA_CERTIFICATE: certificate})

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def create_authority(job: str, now: datetime.datetime) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"livelift job {job}")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(job, key, certificate)


def load_authority(directory: Path, job: str) -> Authority:
    certificate = x509.load_pem_x509_certificate(read_private(directory / CA_CERTIFICATE))
    return Authority(job, load_key(read_private(directory / CA_KEY)), certificate)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise TrustError("the private key cannot be read", remedy="pair the two machines again") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TrustError("the private key is not an elliptic curve key", remedy="pair the two machines again")
    return key


def make_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """CSR (DER): proof of possession of ``key``; the name in it means nothing."""
    request = x509.CertificateSigningRequestBuilder().subject_name(_name("livelift")).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)


def save_leaf(directory: Path, key: ec.EllipticCurvePrivateKey, certificate_der: bytes, ca_der: bytes) -> None:
    """Key and certificate go into one file, so that a renewal is one atomic step."""
    certificate = x509.load_der_x509_certificate(certificate_der).public_bytes(Encoding.PEM)
    authority = x509.load_der_x509_certificate(ca_der).public_bytes(Encoding.PEM)
    write_private(directory, {CA_CERTIFICATE: authority, LEAF: certificate + _key_pem(key)})


def check_issued(certificate_der: bytes, ca_der: bytes, key: ec.EllipticCurvePublicKey) -> Peer:
    """Whom the certificate names, if the authority signed it for this key; TrustError otherwise."""
    try:
        certificate = x509.load_der_x509_certificate(certificate_der)
        certificate.verify_directly_issued_by(x509.load_der_x509_certificate(ca_der))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
        raise TrustError("the certificate that came back is not signed by the job's authority") from error
    if certificate.public_key() != key:
        raise TrustError("the certificate that came back is for another key")
    return peer_of(uris)


def uri_of(peer: Peer) -> str:
    return f"livelift:{peer.job}/{peer.role}"


def peer_of(uris: list[str]) -> Peer:
    """From the URIs of a certificate that has been verified; TrustError unless exactly one is ours."""
    if len(uris) == 1 and uris[0].startswith("livelift:"):
        job, _, role = uris[0].removeprefix("livelift:").partition("/")
        if job and role in ("source", "target"):
            return Peer(job, "source" if role == "source" else "target")
    raise TrustError("a certificate that names no Livelift job and role")


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
