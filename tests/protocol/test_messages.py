from __future__ import annotations

import msgspec
import pytest

from livelift.errors import VersionError, WireError
from livelift.model.job import Map
from livelift.protocol import messages
from livelift.protocol.messages import (
    MAX_MESSAGE,
    PROTOCOL,
    Ack,
    Bye,
    CutAsk,
    CutDone,
    Fault,
    Hello,
    Join,
    Joined,
    Ping,
    Pong,
    Renew,
    Renewed,
    Resync,
    StageAnswer,
    StageAsk,
    Status,
    VerifyAnswer,
    VerifyAsk,
    Welcome,
    decode,
    encode,
    negotiate,
)

EXAMPLES = [
    Hello("source", "ab12", (Map(b"/srv", b"/replica/srv", (b"*.tmp",)),), 5, 7, ("reflink",)),
    Welcome(3, 4, -5, {"free": 10**12, "acl": True, "case": None, "fs": {"/": ["ext4", 1.5, b"\xff"]}}),
    Ack(1, 2, 3, 4, "disk full"),
    Resync((126 << 56) | 5, 2, b"na\xffme", "no such name"),
    VerifyAsk(1, b"range", b"\0" * 1000),
    VerifyAnswer(1, b"range", b""),
    CutAsk(9, "cutover"),
    CutDone(9, "cutover", b"\1" * 32, ""),
    Status(b"\x80"),
    Renew(b"csr"),
    Renewed(b"crt"),
    Fault("wire", "text", "remedy"),
    Ping(1),
    Pong(1, -2),
    Bye("done"),
    StageAsk(4, "adapt", b'{"ignore":[]}'),
    StageAnswer(4, False, b'{"code":"state"}'),
    Join(b"s" * 16, 3, 4, "up"),
    Joined(),
]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_every_message_survives_the_wire(message):
    assert decode(encode(message)) == message


def test_examples_cover_the_union():
    assert {type(example) for example in EXAMPLES} == set(messages.Message.__args__)


def test_fields_of_a_newer_minor_are_ignored_and_missing_ones_get_defaults():
    assert decode(msgspec.msgpack.encode([15, "reason", "new field", 7])) == Bye("reason")
    assert decode(msgspec.msgpack.encode([15])) == Bye()


@pytest.mark.parametrize(
    "soup",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode([99]),  # unknown tag
        msgspec.msgpack.encode([3, 1, 2, 3]),  # a field short
        msgspec.msgpack.encode([3, -1, 2, 3, 4]),  # negative LSN
        msgspec.msgpack.encode([3, "1", 2, 3, 4]),
        msgspec.msgpack.encode([1, "controller", "job", [], 0, 0]),  # no such role
        msgspec.msgpack.encode([32, b"short", 0, 1, "up"]),
        encode(Bye()) + b"\0",  # more than one
        msgspec.msgpack.encode([2, 1, 1, 1]) [:-1] + b"\x91" * 100_000,
    ],
)  # fmt: skip
def test_malformed_is_a_wire_error(soup):
    with pytest.raises(WireError):
        decode(soup)


def test_too_long_is_refused_on_both_sides():
    with pytest.raises(WireError, match="limit"):
        encode(Status(b"x" * MAX_MESSAGE))
    with pytest.raises(WireError, match="limit"):
        decode(bytes(MAX_MESSAGE + 1))


def test_majors_must_agree_and_minors_meet_at_the_lower():
    major, minor = PROTOCOL
    assert negotiate((major, minor + 5)) == PROTOCOL
    with pytest.raises(VersionError, match=r"9\.9\.9") as caught:
        negotiate((major + 1, 0), "9.9.9")
    assert "same Livelift release" in str(caught.value)
