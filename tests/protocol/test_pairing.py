from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livelift.errors import WireError
from livelift.protocol.pairing import (
    MAX_PAIRING,
    PairChallenge,
    PairDenied,
    PairGrant,
    PairHello,
    PairProof,
    decode,
    encode,
    length_of,
    transcript,
)

N = bytes(range(32))


@pytest.mark.parametrize(
    "message",
    [
        PairHello("source", N),
        PairChallenge("job", N, N),
        PairProof(b"csr", N),
        PairGrant(b"crt", b"ca", N),
        PairDenied("trust", "no"),
    ],
)
def test_round_trip(message):
    data = encode(message)
    assert length_of(data[:4]) == len(data) - 4
    assert decode(data[4:]) == message


@pytest.mark.parametrize("prefix", [b"", b"\0\0\0\0", b"GET ", (MAX_PAIRING + 1).to_bytes(4, "big")])
def test_length_is_checked_first(prefix):
    with pytest.raises(WireError):
        length_of(prefix)


def test_short_nonces_and_long_certificates_are_refused():
    for message in (PairHello("source", b"short"), PairGrant(b"x" * 5000, b"", N)):
        with pytest.raises(WireError):
            decode(encode(message)[4:])


@given(st.lists(st.binary(max_size=8), max_size=4), st.lists(st.binary(max_size=8), max_size=4))
def test_transcripts_of_different_parts_differ(one, other):
    assert (transcript(b"l", *one) == transcript(b"l", *other)) == (one == other)
