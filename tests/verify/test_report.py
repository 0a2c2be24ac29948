from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from livelift.errors import TrustError
from livelift.verify.compare import Difference, Intended
from livelift.verify.messages import Finished
from livelift.verify.report import LISTED, Report, check, countersign, make_report, reported_path, side, sign

Key = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate(key: Key) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "agent")])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)


P256 = ec.generate_private_key(ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
OTHER = ec.generate_private_key(ec.SECP256R1())
DONE = Finished(b"\x11" * 32, 5, 6, 7, 8, 9, 10, 0)
FOUND = [
    Difference(0, b"a\xff", "layout", "no holes", "x"),
    Difference(0, b"etc/passwd", "content", "aa", "bb"),
]


def example(differences: list[Difference] = FOUND) -> Report:
    return make_report(
        tool="livelift 0.1.0",
        job="abc",
        cut=12345,
        time=1_700_000_000_000_000_000,
        capture="fanotify",
        sample=1.0,
        maps=[(0, b"/", b"/replica")],
        source=side("old", DONE),
        target=side("new", DONE),
        differences=differences,
        intended=[(Intended(b"etc/fstab", "the target's own disks", ("content",)), 1)],
    )


@pytest.mark.parametrize("key", [P256, ED25519], ids=["p256", "ed25519"])
def test_a_signed_report_comes_back(key: Key) -> None:
    report = example()
    document = sign(report, pem(key))
    assert check(document, certificate(key)) == report
    assert document.count(b"\n") == 2
    assert msgspec.json.decode(document.splitlines()[0])["cut"] == 12345


def test_the_text_is_canonical() -> None:
    line = sign(example(), pem(ED25519)).splitlines()[0]
    names = list(msgspec.json.decode(line))
    assert names == sorted(names) and line == sign(example(), pem(P256)).splitlines()[0]


def test_both_sides_may_sign() -> None:
    document = countersign(sign(example(), pem(P256)), pem(ED25519))
    assert check(document, certificate(P256)) == check(document, certificate(ED25519)) == example()
    with pytest.raises(TrustError, match="no signature"):
        check(document, certificate(OTHER))


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 7), st.sampled_from([P256, ED25519]))
def test_any_flipped_bit_is_detected(where: int, bit: int, key: Key) -> None:
    document = bytearray(sign(example(), pem(key)))
    where %= len(document) - 1  # the newline at the very end says nothing
    document[where] ^= 1 << bit
    try:
        report = check(bytes(document), certificate(key))
    except TrustError:
        return
    assert report == example() and where > document.index(b"\n")  # only in the signature line's own spelling


def test_a_report_that_was_changed_to_please() -> None:
    document = sign(example(), pem(P256)).replace(b'"failing":1', b'"failing":0')
    with pytest.raises(TrustError, match="changed after"):
        check(document, certificate(P256))


@given(st.binary(max_size=300))
def test_noise_is_not_trusted(noise: bytes) -> None:
    for document in (noise, sign(example(), pem(ED25519)).partition(b"\n")[0] + b"\n" + noise):
        with pytest.raises(TrustError):
            check(document, CERTIFICATE)


CERTIFICATE = certificate(ED25519)


def test_keys_and_certificates_that_do_not_serve() -> None:
    with pytest.raises(TrustError, match="Ed25519 or P-256"):
        sign(example(), pem(rsa.generate_private_key(65537, 2048)))
    with pytest.raises(TrustError, match="cannot be read"):
        sign(example(), b"no key")
    with pytest.raises(TrustError, match="cannot be read"):
        check(sign(example(), pem(P256)), b"no certificate")


def test_failures_are_listed_before_notes_and_counted() -> None:
    report = example()
    assert (report.failing, report.notes, report.equal) == (1, 1, False)
    assert [difference.field for difference in report.differences] == ["content", "layout"]
    assert example(FOUND[:1]).equal


def test_a_flood_of_differences_is_counted_but_not_listed() -> None:
    flood = [Difference(0, b"%06d" % number, "layout") for number in range(LISTED + 50)]
    report = example([*flood, Difference(0, b"z", "content")])
    assert len(report.differences) == LISTED and report.differences[0].path.text == "z"
    assert (report.failing, report.notes) == (1, LISTED + 50)


@pytest.mark.parametrize(
    ("raw", "text", "hex"),
    [
        (b"etc/passwd", "etc/passwd", ""),
        ("größe".encode(), "größe", ""),
        (b"a\xff", "a\\xff", "61ff"),
        (b"a\\xff", "a\\xff", ""),
        (b"a\nb", "a\\nb", "610a62"),
    ],
)
def test_a_path_can_always_be_told_exactly(raw: bytes, text: str, hex: str) -> None:
    path = reported_path(raw)
    assert (path.text, path.hex) == (text, hex)
    assert (bytes.fromhex(path.hex) if path.hex else path.text.encode()) == raw
