"""What arrives is passed on by kind: nothing that somebody waits for may be dropped."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from livelift.errors import UnreachableError
from livelift.log.batch import Batch, records_of
from livelift.model.record import Kind, Range, Record
from livelift.protocol.frames import MAX_BLOB, MAX_HEADS
from livelift.protocol.messages import Bye, CutDone, Message, Renewed, Resync, StageAnswer, VerifyAnswer, Welcome
from livelift.source.sender import Sender
from livelift.spool.spool import Spool

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


class Wire:
    """As much of a channel as a sender uses; refuses what the real one refuses, and ends when it has ``last``."""

    is_worn = False

    def __init__(self, last: int, stop: threading.Event) -> None:
        self.last, self.stop = last, stop
        self.batches: list[Batch] = []
        self.greeted = False

    def receive(self, timeout: float) -> Message | None:
        if not self.greeted:
            self.greeted = True
            return Welcome(0, 0, 0)
        self.stop.wait(timeout)
        return None

    def send_batch(self, batch: Batch) -> None:
        assert len(batch.heads) <= MAX_HEADS and batch.payload_size <= MAX_BLOB
        self.batches.append(batch)
        if batch.last_lsn >= self.last:
            self.stop.set()

    def send(self, message: Message) -> None:
        pass

    def close(self, reason: str) -> None:
        pass


def test_what_came_into_the_log_at_once_and_is_too_large_for_a_frame_goes_in_several(tmp_path: Path) -> None:
    """Everything behind a write whose bytes were not in memory is given out when they come."""
    records = [Record(Kind.WRITE, Range(5, 2, b"f", n << 16, 1 << 16), bytes(1 << 16)) for n in range(300)]
    stop = threading.Event()
    given_way: list[int] = []
    with Spool(os.fsencode(tmp_path / "log"), "job", 1 << 30) as spool:
        spool.append(records)
        wire = Wire(300, stop)
        nobody = lambda *_: None  # noqa: E731
        sender = Sender(
            spool, nobody, lambda: Bye(""), lambda welcome: 0, nobody, nobody,  # type: ignore[arg-type, return-value]
            lambda: given_way.append(len(wire.batches)),
        )  # fmt: skip
        sender._converse(wire, stop)  # type: ignore[arg-type]
    assert [batch.payload_size for batch in wire.batches] == [128 << 16, 128 << 16, 44 << 16]
    assert sender.sent_lsn == 300
    assert given_way == [0], "before what is sent, not after it"
    sent = [record for batch in wire.batches for record in records_of(batch.heads, b"".join(batch.blobs))]
    assert [record.body for record in sent] == [record.body for record in records]
