from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livelift.errors import VersionError, WireError
from livelift.protocol import messages
from livelift.protocol.messages import Ack, Bye, CutAsk, CutDone, Fault, Hello, Ping, Welcome
from livelift.protocol.session import EVENTS, SENDERS, TRANSITIONS, Session, State, document

HELLO = Hello("source", "ab", (), 0, 1)
WELCOME = Welcome(0, 0, 0)


def streaming() -> tuple[Session, Session]:
    source, target = Session("source"), Session("target")
    source.sent(HELLO)
    target.received(HELLO)
    target.sent(WELCOME)
    source.received(WELCOME)
    return source, target


def test_the_whole_life():
    source, target = streaming()
    assert source.protocol == target.protocol == messages.PROTOCOL
    source.sent_batch()
    target.received_batch()
    source.sent(CutAsk(1, "x"))
    target.received(CutAsk(1, "x"))
    assert source.state is target.state is State.CUTTING
    target.sent(Ack(0, 0, 0, 0))
    target.sent(CutDone(1, "x", b""))
    source.received(Ack(0, 0, 0, 0))
    source.received(CutDone(1, "x", b""))
    assert source.state is target.state is State.STREAMING
    source.sent(Bye())
    source.received(Ack(0, 0, 0, 0))  # was on its way
    target.received(Bye())
    target.sent(Bye())
    source.received(Bye())
    assert source.state is target.state is State.CLOSED


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Session("source").sent_batch(),
        lambda: Session("target").received_batch(),
        lambda: Session("target").sent(HELLO),
        lambda: Session("source").received(HELLO),
        lambda: Session("source").received(WELCOME),
        lambda: streaming()[0].received_batch(),
        lambda: streaming()[0].sent(HELLO),
        lambda: streaming()[0].received(CutDone(1, "x", b"")),
        lambda: streaming()[1].sent(CutAsk(1, "x")),
        lambda: streaming()[0].received(messages.Join(b"s" * 16, 0, 1, "up")),
    ],
)
def test_what_is_not_allowed_raises_and_changes_nothing(wrong):
    with pytest.raises(WireError):
        wrong()


def test_refused_step_leaves_the_state():
    source, _ = streaming()
    with pytest.raises(WireError):
        source.sent(HELLO)
    assert source.state is State.STREAMING


def test_another_major_is_a_version_error():
    with pytest.raises(VersionError):
        Session("target").received(Hello("source", "ab", (), 0, 1, protocol=(99, 0)))


def test_tables_are_complete():
    assert set(TRANSITIONS) == set(State)
    assert set(SENDERS) == set(EVENTS)
    known = {kind.__name__ for kind in messages.Message.__args__} - {"Join", "Joined"} | {"Batch"}
    assert set(EVENTS) == known
    reached = {State.CONNECTING}.union(*(table.values() for table in TRANSITIONS.values()))
    assert reached == set(State)


@given(st.lists(st.sampled_from([HELLO, WELCOME, Ping(1), Ack(0, 0, 0, 0), Fault("a", "b"), Bye(), "batch"])))
def test_any_order_ends_in_a_known_state_or_a_wire_error(order):
    session = Session("target")
    for message in order:
        before = session.state
        try:
            session.received_batch() if message == "batch" else session.received(message)
        except WireError:
            assert session.state is before


def test_document_is_made_from_the_tables():
    path = Path(__file__).parents[2] / "docs/internals/session-states.md"
    assert path.read_text() == document(), "run: python -m livelift.protocol.session > docs/internals/session-states.md"
