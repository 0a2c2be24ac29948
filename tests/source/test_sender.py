"""What arrives is passed on by kind: nothing that somebody waits for may be dropped."""

from __future__ import annotations

import threading

import pytest

from livelift.errors import UnreachableError
from livelift.protocol.messages import CutDone, Message, Renewed, Resync, StageAnswer, VerifyAnswer
from livelift.source.sender import Sender

PASSED_ON = [
    Resync(1, 0, b"", ""),
    VerifyAnswer(1, b"roll", b""),
    StageAnswer(1, True, b"{}"),
    CutDone(1, "", b""),
    Renewed(b""),
]


class Channel:
    def __init__(self, *messages: Message) -> None:
        self.left = list(messages)

    def receive(self, timeout: float) -> Message:
        if not self.left:
            raise UnreachableError("the end")
        return self.left.pop(0)


@pytest.mark.parametrize("message", PASSED_ON, ids=lambda m: type(m).__name__)
def test_every_answer_reaches_who_waits_for_it(message: Message) -> None:
    got: list[Message] = []
    nobody = lambda *_: None  # noqa: E731
    sender = Sender(None, nobody, nobody, nobody, nobody, got.append)  # type: ignore[arg-type]
    sender._listen(Channel(message), threading.Event(), threading.Event())  # type: ignore[arg-type]
    assert got == [message]
