from __future__ import annotations

import pytest

from livelift.errors import StateError, VersionError, WireError
from livelift.verify.answer import Answerer
from livelift.verify.messages import FORMAT, AskDirectories, Begin, Digest, FetchRows, encode
from tests.verify.test_exchange import KEY, Side


def test_another_format_is_refused() -> None:
    with pytest.raises(VersionError):
        Answerer(Side({b"": []})).answer(encode(Begin(FORMAT + 1, 1.0, KEY)))


def test_answerer_wants_a_beginning_and_rows_that_are_in_question() -> None:
    side = Side({b"": []})
    answerer = Answerer(side)
    with pytest.raises(StateError):
        answerer.answer(encode(AskDirectories(0, ())))
    answerer.answer(encode(Begin(FORMAT, 1.0, KEY)))
    with pytest.raises(WireError):
        answerer.answer(encode(FetchRows(0, b"", 0)))
    with pytest.raises(WireError):
        answerer.answer(encode(FetchRows(0, b"../etc", 0)))
    with pytest.raises(WireError):
        answerer.answer(encode(AskDirectories(0, (Digest(0, b"..", b""),))))
