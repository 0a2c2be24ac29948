"""Answers of the target that somebody waits for: of a verification, of a cut, of a step of a whole server's move."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from livelift.protocol.messages import CutDone, Message, StageAnswer, VerifyAnswer

Answer = TypeVar("Answer", VerifyAnswer, CutDone, StageAnswer)


class Answers:
    """The receiving thread puts them in, by kind and number; any thread takes its own out."""

    def __init__(self) -> None:
        self._arrived = threading.Condition()
        self._waiting: dict[tuple[type[Message], int], Message] = {}

    def came(self, message: Message) -> None:
        """What is no answer is not kept."""
        if isinstance(message, VerifyAnswer | StageAnswer | CutDone):
            number = message.lsn if isinstance(message, CutDone) else message.id
            with self._arrived:
                self._waiting[type(message), number] = message
                self._arrived.notify_all()

    def take(self, kind: type[Answer], number: int, deadline: float, alive: Callable[[], None]) -> Answer | None:
        """None at the deadline (of the monotonic clock). ``alive``: raises when no answer can come any more."""
        with self._arrived:
            while (kind, number) not in self._waiting:
                alive()
                if not self._arrived.wait(0.2) and time.monotonic() > deadline:
                    return None
            answer = self._waiting.pop((kind, number))
        assert isinstance(answer, kind)
        return answer
