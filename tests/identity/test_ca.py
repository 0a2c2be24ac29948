from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from livelift.errors import TrustError
from livelift.identity.ca import (
    CA_KEY,
    CA_LIFE,
    LEAF_LIFE,
    check_issued,
    create_authority,
    load_authority,
    make_request,
    new_key,
    peer_of,
    uri_of,
)
from livelift.protocol.messages import Peer

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)


def test_leaf_names_job_and_role_and_lives_a_week():
    authority, key = create_authority("ab12", NOW), new_key()
    der = authority.sign(make_request(key), "source", NOW)
    assert check_issued(der, authority.der, key.public_key()) == Peer("ab12", "source")
    certificate = x509.load_der_x509_certificate(der)
    assert certificate.not_valid_after_utc == NOW + LEAF_LIFE
    assert certificate.not_valid_before_utc < NOW
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_the_request_cannot_choose_its_names():
    authority, key = create_authority("ab12", NOW), new_key()
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("livelift:ab12/target")])
    builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(names, critical=False)
    request = builder.sign(key, hashes.SHA256())
    der = authority.sign(request.public_bytes(Encoding.DER), "source", NOW)
    assert check_issued(der, authority.der, key.public_key()).role == "source"


def test_no_leaf_outlives_its_authority():
    authority, key = create_authority("ab12", NOW), new_key()
    late = NOW + CA_LIFE - datetime.timedelta(days=1)
    der = authority.sign(make_request(key), "source", late)
    assert x509.load_der_x509_certificate(der).not_valid_after_utc == NOW + CA_LIFE
    with pytest.raises(TrustError, match="expired"):
        authority.sign(make_request(key), "source", NOW + CA_LIFE)


def requests():
    name = x509.Name([])
    builder = x509.CertificateSigningRequestBuilder(name)
    good = bytearray(make_request(new_key()))
    good[-5] ^= 1
    yield "signature broken", bytes(good)
    yield "garbage", b"\x30\x03garbage"
    yield "empty", b""
    p384 = ec.generate_private_key(ec.SECP384R1())
    yield "another curve", builder.sign(p384, hashes.SHA256()).public_bytes(Encoding.DER)
    yield "another kind", builder.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(Encoding.DER)


@pytest.mark.parametrize(("why", "csr"), list(requests()))
def test_bad_requests_are_refused(why, csr):
    with pytest.raises(TrustError):
        create_authority("ab12", NOW).sign(csr, "source", NOW)


def test_certificates_of_others_are_refused():
    ours, theirs, key = create_authority("ab12", NOW), create_authority("ab12", NOW), new_key()
    der = theirs.sign(make_request(key), "source", NOW)
    with pytest.raises(TrustError, match="not signed"):
        check_issued(der, ours.der, key.public_key())
    with pytest.raises(TrustError, match="another key"):
        check_issued(der, theirs.der, new_key().public_key())


def test_saved_and_loaded(tmp_path):
    authority = create_authority("ab12", NOW)
    authority.save(tmp_path)
    again = load_authority(tmp_path, "ab12")
    assert again.der == authority.der
    key = new_key()
    assert check_issued(again.sign(make_request(key), "target", NOW), authority.der, key.public_key())
    (tmp_path / CA_KEY).write_bytes(b"no key")
    with pytest.raises(TrustError, match="cannot be read"):
        load_authority(tmp_path, "ab12")


@pytest.mark.parametrize(
    "uris", [[], ["http://x"], ["livelift:/source"], ["livelift:a/root"], ["livelift:a/source", "livelift:a/target"]]
)
def test_names_that_are_not_ours(uris):
    with pytest.raises(TrustError):
        peer_of(uris)
    assert peer_of([uri_of(Peer("a", "target"))]) == Peer("a", "target")
