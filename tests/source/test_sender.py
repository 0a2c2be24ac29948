"""What arrives is passed on by kind: nothing that somebody waits for may be dropped."""

from __future__ import annotations

import threading

import pytest

from livelift.errors import UnreachableError
from livelift.protocol.messages import CutDone, Message, Renewed, Resync, StageAnswer, VerifyAnswer
from livelift.source import sender as sender_module
from livelift.source.sender import GIVE_WAY, Sender

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


def idle() -> Sender:
    nobody = lambda *_: None  # noqa: E731
    return Sender(None, nobody, nobody, nobody, nobody, nobody)  # type: ignore[arg-type]


def test_a_batch_waits_while_the_capture_is_pressed_and_no_longer() -> None:
    sender, answers = idle(), [True, True, True, False, True]
    sender.pressed = lambda: answers.pop(0)
    sender._give_way(threading.Event())
    assert answers == [True]


def test_the_link_does_not_stand_still_where_the_capture_is_pressed_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(sender_module.time, "monotonic", lambda: now[0])
    sender = idle()

    def pressed() -> bool:
        now[0] += 0.03
        return True

    sender.pressed = pressed
    sender._give_way(threading.Event())
    assert GIVE_WAY <= now[0] < GIVE_WAY + 0.05
