"""What a source makes of the target's greeting."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from livelift.errors import PreflightError, RetryError
from livelift.lifecycle.states import State
from livelift.source.agent import SourceAgent

HOURS = 3 * 3600 * 10**9


@pytest.mark.parametrize(("durable", "error"), [(0, PreflightError), (5, RetryError)])
def test_clocks_that_are_apart_end_a_job_that_begins_and_not_one_that_goes_on(durable, error):
    """A target that came back with another clock ended the agent for good: nothing of the source was followed any
    more (seen with a machine that had been saved and loaded)."""
    agent = SourceAgent.__new__(SourceAgent)
    spool = SimpleNamespace(last_lsn=9, oldest_lsn=1, acked_lsn=5)
    agent.journal = SimpleNamespace(spool=spool)  # type: ignore[assignment]
    agent.note = SimpleNamespace(stands=False, state="")  # type: ignore[assignment]
    agent.config = SimpleNamespace(server=False, maps=(), ignored=())  # type: ignore[assignment]
    agent.state = State.FOLLOWING
    welcome = SimpleNamespace(facts={}, clock_ns=time.time_ns() + HOURS, durable_lsn=durable, applied_lsn=durable)
    with pytest.raises(error, match="clock") as caught:
        agent._welcome(welcome)  # type: ignore[arg-type]
    assert caught.value.remedy
    assert agent.state is State.FOLLOWING
