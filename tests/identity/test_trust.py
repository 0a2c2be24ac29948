from __future__ import annotations

import datetime
import ssl

import pytest

from livelift.errors import StateError, TrustError, UnreachableError
from livelift.identity.ca import LEAF_LIFE, RENEW_BEFORE, create_authority
from livelift.identity.trust import Trust, issue
from livelift.protocol.messages import Peer

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture
def authority():
    return create_authority("ab12", NOW)


def trust(authority, directory, role="source", clock=lambda: NOW):
    issue(authority, role, directory, NOW)
    return Trust(directory, clock)


def test_contexts_allow_nothing_below_mutual_tls_1_3(authority, tmp_path):
    ours = trust(authority, tmp_path)
    for context in (ours.client_context(), ours.server_context()):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert len(context.get_ca_certs()) == 1
    assert ours.server_context().num_tickets == 0


def test_own_expired_certificate_is_said_before_connecting(authority, tmp_path):
    late = trust(authority, tmp_path, clock=lambda: NOW + LEAF_LIFE)
    with pytest.raises(TrustError, match=r"expired on .*date -u") as caught:
        raise_flat(late.client_context)
    assert caught.value.exit_code == 9


def raise_flat(call):
    try:
        call()
    except TrustError as error:
        raise TrustError(str(error).replace("\n", " ")) from error


def test_renewal(authority, tmp_path):
    clock = [NOW]
    ours = trust(authority, tmp_path, clock=lambda: clock[0])
    assert not ours.is_due
    clock[0] = NOW + LEAF_LIFE - RENEW_BEFORE
    assert ours.is_due
    before = ours.certificate_der
    ours.finish_renewal(authority.sign(ours.begin_renewal(), "source", clock[0]))
    assert ours.certificate_der != before
    assert not ours.is_due
    assert Trust(tmp_path, lambda: clock[0]).certificate_der == ours.certificate_der


def test_refused_renewals_keep_the_old_certificate(authority, tmp_path):
    ours = trust(authority, tmp_path)
    before = ours.certificate_der
    with pytest.raises(StateError):
        ours.finish_renewal(before)
    csr = ours.begin_renewal()
    for bad in (
        authority.sign(csr, "target", NOW),
        create_authority("ab12", NOW).sign(csr, "source", NOW),
        before,
        b"garbage",
    ):
        with pytest.raises(TrustError):
            ours.finish_renewal(bad)
    assert ours.certificate_der == before == Trust(tmp_path, lambda: NOW).certificate_der


def test_credentials_of_two_jobs_mixed_up_are_noticed(authority, tmp_path):
    trust(authority, tmp_path)
    (tmp_path / "ca.pem").unlink()
    other = create_authority("other", NOW)
    other.save(tmp_path)
    with pytest.raises(TrustError):
        Trust(tmp_path, lambda: NOW)


def test_unpaired(tmp_path):
    with pytest.raises(StateError, match="pair"):
        Trust(tmp_path, lambda: NOW)


class Shown:
    def __init__(self, uri):
        self.uri = uri

    def getpeercert(self):
        return {"subjectAltName": (("URI", self.uri),)} if self.uri else {}


def test_peer_of(authority, tmp_path):
    ours = trust(authority, tmp_path)
    assert ours.peer_of(Shown("livelift:ab12/target")) == Peer("ab12", "target")
    assert ours.peer_of(Shown("")) is None
    for uri in ("livelift:other/target", "livelift:ab12/source", "http://ab12/target"):
        with pytest.raises(TrustError):
            ours.peer_of(Shown(uri))


def test_explain(authority, tmp_path):
    ours = trust(authority, tmp_path)
    alert = ssl.SSLError(1, "x")
    alert.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert "wants a certificate" in str(ours.explain(alert, "host"))
    assert isinstance(ours.explain(alert, "host"), TrustError)
    assert isinstance(ours.explain(ConnectionResetError(), "host"), UnreachableError)
