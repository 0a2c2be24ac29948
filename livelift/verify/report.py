"""The signed report: what was compared, when, by whom, and what is different; JSON for machines. `verify.render`
prints it.

A document is lines of JSON. The first is the report with sorted keys; each further line is one signature over the
bytes of the first:

    {"capture":"fanotify","counts":...} {"algorithm":"ecdsa-p256-sha256","key":"<SHA-256 of the public key,
    hex>","signature":"<base64>"}

so the source and the target can both sign, and nothing has to be re-encoded to check it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from livelift.errors import TrustError
from livelift.verify.compare import Difference, Intended, show
from livelift.verify.messages import Finished

CONTEXT: Final = b"livelift verification report 1\n"
"""Stands before the signed bytes, so that no other thing this key signs can pass for a report."""

LISTED: Final = 10_000
"""Differences that a report lists; beyond it only counts (``failing``, ``notes``) grow."""


class ReportedPath(msgspec.Struct, frozen=True):
    """``text`` for reading; ``hex`` holds the bytes where the text is not exactly them in UTF-8."""

    text: str
    hex: str = ""


class ReportedDifference(msgspec.Struct, frozen=True):
    map: int
    path: ReportedPath
    field: str
    source: str
    target: str
    fails: bool


class ReportedIntention(msgspec.Struct, frozen=True):
    map: int  # -1: every map
    path: ReportedPath
    fields: tuple[str, ...]
    reason: str
    covered: int


class ReportedMap(msgspec.Struct, frozen=True):
    index: int
    source: ReportedPath
    target: ReportedPath


class Side(msgspec.Struct, frozen=True):
    """One side's tree digest (hex) and the work behind it."""

    host: str
    tree: str
    directories: int
    objects: int
    files_read: int
    bytes_read: int
    files_from_cache: int
    bytes_from_cache: int
    unreadable: int


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``cut``: the LSN at which both trees were compared. ``time``: ns since the epoch. ``sample``: fraction of files
    read."""

    tool: str
    job: str
    cut: int
    time: int
    capture: str
    sample: float
    maps: tuple[ReportedMap, ...]
    source: Side
    target: Side
    failing: int
    notes: int
    differences: tuple[ReportedDifference, ...]
    intended: tuple[ReportedIntention, ...]

    @property
    def equal(self) -> bool:
        """No difference but the intended ones and notes."""
        return self.failing == 0


def reported_path(raw: bytes) -> ReportedPath:
    text = show(raw)
    return ReportedPath(text, "" if text.encode() == raw else raw.hex())


def side(host: str, done: Finished) -> Side:
    """From `TreeVerifier.finished` (with the tree digest in it) or `Outcome.target`."""
    return Side(
        host,
        done.tree.hex(),
        done.directories,
        done.objects,
        done.files,
        done.bytes_hashed,
        done.files_cached,
        done.bytes_cached,
        done.troubles,
    )


def make_report(
    *,
    tool: str,
    job: str,
    cut: int,
    time: int,
    capture: str,
    sample: float,
    maps: Sequence[tuple[int, bytes, bytes]],
    source: Side,
    target: Side,
    differences: Sequence[Difference],
    intended: Sequence[tuple[Intended, int]] = (),
) -> Report:
    """``differences`` and ``intended`` as `compare.split_intended` gives them; ``maps``: (index, source path, target
    path)."""
    failing = sum(difference.fails for difference in differences)
    first = sorted(differences, key=lambda difference: (not difference.fails, difference))[:LISTED]
    return Report(
        tool,
        job,
        cut,
        time,
        capture,
        sample,
        tuple(ReportedMap(index, reported_path(one), reported_path(other)) for index, one, other in maps),
        source,
        target,
        failing,
        len(differences) - failing,
        tuple(ReportedDifference(d.map, reported_path(d.path), d.field, d.source, d.target, d.fails) for d in first),
        tuple(ReportedIntention(i.map, reported_path(i.path), i.fields, i.reason, hits) for i, hits in intended),
    )


class _Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    algorithm: str
    key: str
    signature: str


def sign(report: Report, key_pem: bytes) -> bytes:
    """The document with one signature. ``key_pem``: unencrypted Ed25519 or P-256 private key. Raises TrustError for
    another key."""
    return countersign(msgspec.json.encode(report, order="sorted") + b"\n", key_pem)


def countersign(document: bytes, key_pem: bytes) -> bytes:
    """The same document with one signature more. Check the others before you sign."""
    body = document.partition(b"\n")[0]
    try:
        key = serialization.load_pem_private_key(key_pem, None)
    except (ValueError, TypeError) as error:
        raise TrustError(f"the signing key cannot be read: {error}") from None
    if isinstance(key, ed25519.Ed25519PrivateKey):
        algorithm, raw = "ed25519", key.sign(CONTEXT + body)
    elif isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        algorithm, raw = "ecdsa-p256-sha256", key.sign(CONTEXT + body, ec.ECDSA(hashes.SHA256()))
    else:
        raise TrustError("reports are signed with Ed25519 or P-256 keys only")
    line = _Signature(algorithm, _key_id(key.public_key()), base64.b64encode(raw).decode("ascii"))
    return document + msgspec.json.encode(line, order="sorted") + b"\n"


def check(document: bytes, certificate_pem: bytes) -> Report:
    """The report, if the holder of the certificate's key signed exactly this one; else TrustError.

    Whether the certificate itself is to be trusted (the job's own CA, its time) is for the caller to know.
    """
    try:
        public = x509.load_pem_x509_certificate(certificate_pem).public_key()
    except ValueError as error:
        raise TrustError(f"the certificate cannot be read: {error}") from None
    body, _, rest = document.partition(b"\n")
    wanted = _key_id(public)
    for line in rest.splitlines():
        try:
            signature = msgspec.json.decode(line, type=_Signature)
            raw = base64.b64decode(signature.signature, validate=True)
        except (msgspec.DecodeError, ValueError, binascii.Error):
            raise TrustError("malformed signature line in the report") from None
        if signature.key != wanted:
            continue
        try:
            if isinstance(public, ed25519.Ed25519PublicKey) and signature.algorithm == "ed25519":
                public.verify(raw, CONTEXT + body)
            elif isinstance(public, ec.EllipticCurvePublicKey) and signature.algorithm == "ecdsa-p256-sha256":
                public.verify(raw, CONTEXT + body, ec.ECDSA(hashes.SHA256()))
            else:
                raise TrustError(f"signature of unknown kind {signature.algorithm!r}")
            return msgspec.json.decode(body, type=Report)
        except InvalidSignature:
            raise TrustError("the report was changed after it was signed") from None
        except (msgspec.DecodeError, ValueError) as error:
            raise TrustError(f"signed, but not a report of this version: {error}") from None
    raise TrustError("the report bears no signature of this certificate's key")


def _key_id(public: PublicKeyTypes) -> str:
    """SHA-256 of the SubjectPublicKeyInfo, hex: tells which of several signatures to look at."""
    return hashlib.sha256(
        public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()
