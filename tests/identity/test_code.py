from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livelift.errors import TrustError
from livelift.identity.code import ALPHABET, derive, new_code, normalise


def test_form():
    codes = {new_code() for _ in range(50)}
    assert len(codes) == 50
    assert all(re.fullmatch(f"[{ALPHABET}]{{5}}-[{ALPHABET}]{{5}}", code) for code in codes)


def test_what_people_type_instead():
    assert normalise(" oiL01-abcde\n") == normalise("0110 1AB CDE") == "01101ABCDE"


@pytest.mark.parametrize("text", ["", "ABCDE-ABCD", "ABCDE-ABCDEF", "ABCDU-ABCDE", "ÄBCDE-ABCDE"])
def test_not_a_code(text):
    with pytest.raises(TrustError, match="ten characters"):
        normalise(text)


@given(st.text())
def test_any_text_is_ten_characters_or_refused(text):
    try:
        assert len(normalise(text)) == 10
    except TrustError:
        pass


def test_key_depends_on_code_and_salt_only():
    code = "ABCDE-01234"
    assert derive(code, b"s") == derive("abcdeo1234", b"s") != derive(code, b"t")
    assert len(derive(code, b"s")) == 32
