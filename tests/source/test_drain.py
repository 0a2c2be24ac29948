"""A drain that does not end says what it waits for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from livelift.errors import StateError
from livelift.lifecycle.states import State
from livelift.source.dirty import Dirty
from livelift.source.drain import Drain
from tests.source.fakes import Time


def agent(time: Time, names: dict[int, bytes], listing: bool = False, waits: bool = False) -> SimpleNamespace:
    return SimpleNamespace(
        walker=SimpleNamespace(queue=SimpleNamespace(idle=lambda: not listing)),
        follower=SimpleNamespace(waits=waits),
        dirty=Dirty(time),
        bulk=Dirty(time),
        live=SimpleNamespace(path_of=names.get),
        check=lambda: None,
        state=State.FOLLOWING,
    )


def test_what_waits_and_what_is_being_read_is_counted_and_named():
    time = Time()
    found = agent(time, {7: b"/srv/seven", 8: b"/srv/eight"})
    drain = Drain(found)
    assert drain.unsettled() == "what changed to be read"
    found.dirty.add(7, True, delay=0.0)
    found.dirty.add(9, True)
    found.bulk.add(8, True)
    assert found.dirty.take(0.0)[0] == 7
    words = "what changed to be read: 3 (/srv/seven, object 9, which has no name now, /srv/eight)"
    assert drain.unsettled() == words
    assert Drain(agent(time, {}))._name(7) == "object 7, which has no name now"
    assert Drain(agent(time, {7: b"/srv/\xff"}))._name(7) == "/srv/\\xff"
    for oid in range(100, 200):
        found.dirty.add(oid, False)
    assert drain.unsettled().startswith("what changed to be read: 103 (/srv/seven, ")


def test_directories_and_names():
    assert Drain(agent(Time(), {}, True, True)).unsettled() == "directories to be listed; names to be looked at again"


def test_the_timeout_says_it():
    found = agent(Time(), {7: b"/srv/seven"})
    found.dirty.add(7, True)
    drain = Drain(found)
    with pytest.raises(StateError, match=r"timed out waiting for what changed to be read: 1 \(/srv/seven\)"):
        drain.wait_until(lambda: False, 0.0, drain.unsettled)
