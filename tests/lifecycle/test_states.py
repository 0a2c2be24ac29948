from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livelift.errors import StateError
from livelift.lifecycle.states import MOVES, State, diagram, move

EVENTS = sorted({event for moves in MOVES.values() for event in moves})


def test_the_whole_life():
    state = State.CONNECTING
    for event in ("walk", "follow", "fence", "drain", "verify", "drain", "verify", "cut", "rollback", "stop", "start"):
        state = move(state, event)
    assert state is State.CONNECTING


def test_every_state_has_a_row_is_reached_and_can_be_left():
    assert set(MOVES) == set(State)
    reached = {State.CONNECTING}
    while more := {to for state in reached for to in MOVES[state].values()} - reached:
        reached |= more
    assert reached == set(State)
    assert all(MOVES[state] for state in State)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", EVENTS)
def test_every_event_in_every_state(state, event):
    if event in MOVES[state]:
        assert move(state, event) is MOVES[state][event]
    else:
        with pytest.raises(StateError) as refused:
            move(state, event)
        assert f"{event} is not possible while the job is {state}" in str(refused.value)
        assert all(allowed in refused.value.remedy for allowed in MOVES[state])


@pytest.mark.parametrize("state", [State.FENCING, State.DRAINING, State.VERIFYING])
def test_a_fenced_workload_can_always_be_let_go(state):
    assert move(state, "abort") is State.FOLLOWING
    assert "stop" not in MOVES[state], "an agent that ended here would leave the workload fenced"


@given(st.lists(st.sampled_from(EVENTS), max_size=40))
def test_only_a_verified_job_is_cut(events):
    state, before = State.CONNECTING, State.CONNECTING
    for event in events:
        try:
            before, state = state, move(state, event)
        except StateError:
            continue
        assert state is not State.CUT or before is State.VERIFYING


def test_document_is_made_from_the_table():
    text = (Path(__file__).parents[2] / "docs/internals/job-states.md").read_text()
    assert f"```mermaid\n{diagram()}```\n" in text, "put livelift.lifecycle.states.diagram() between the fences"
    assert diagram().count("-->") == 1 + sum(map(len, MOVES.values()))
