"""An answer goes to the one who asked, whatever else comes, and nobody waits for one that cannot come."""

from __future__ import annotations

import threading
import time

import pytest

from livelift.errors import UnreachableError
from livelift.protocol.messages import Bye, CutDone, StageAnswer, VerifyAnswer
from livelift.source.answers import Answers


def fine() -> None:
    return


def test_kinds_with_the_same_number_are_told_apart():
    answers = Answers()
    for message in (VerifyAnswer(1, b"k", b"v"), StageAnswer(1, True, b"{}"), CutDone(1, "label", b""), Bye("no")):
        answers.came(message)
    now = time.monotonic()
    assert answers.take(StageAnswer, 1, now, fine) == StageAnswer(1, True, b"{}")
    assert answers.take(CutDone, 1, now, fine) == CutDone(1, "label", b"")
    assert answers.take(VerifyAnswer, 1, now, fine) == VerifyAnswer(1, b"k", b"v")
    assert answers.take(VerifyAnswer, 1, now, fine) is None  # taken


def test_who_waits_is_woken():
    answers = Answers()
    threading.Timer(0.1, answers.came, [StageAnswer(2, True, b"")]).start()
    assert answers.take(StageAnswer, 2, time.monotonic() + 10, fine) is not None


def test_a_broken_link_ends_the_waiting():
    def broken() -> None:
        raise UnreachableError("the target")

    with pytest.raises(UnreachableError):
        Answers().take(StageAnswer, 3, time.monotonic() + 10, broken)
