"""What the source makes of a target that answers, or does not, after the hand-over."""

from __future__ import annotations

import os
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from livelift.control.client import RemoteFailure
from livelift.errors import StateError, UnreachableError
from livelift.lifecycle.states import State, move
from livelift.source import waiting
from livelift.source.cut_note import CutNote
from livelift.source.handover import Handover, load, save
from livelift.source.waiting import Waiting

OLD = {"system": "old", "attempt": "a"}
NEW = {"system": "new", "attempt": "a"}
SILENCE: dict[str, Any] = {}


class Agent:
    """``says``: the answers to `standing`, one a question, the last for ever; SILENCE: the link is down."""

    def __init__(self, directory: Any, says: list[dict[str, Any]], state: State = State.HANDED) -> None:
        self.config = SimpleNamespace(directory=os.fsencode(directory))
        self.note = CutNote(self.config.directory, True)
        self.note.set("handed")
        self.state = state
        self.says = says
        self.asked: list[str] = []
        self.refuses: set[str] = set()
        self.sender = SimpleNamespace(connected=threading.Event())
        self.stage = SimpleNamespace(ask=self.ask)
        self.resumed = 0

    def ask(self, verb: str, deadline: float, attempt: str) -> dict[str, Any]:
        assert attempt == "a"
        self.asked.append(verb)
        if verb in self.refuses:
            raise RemoteFailure(f"target: no {verb}", "state", 6, {})
        if verb != "standing":
            return {}
        answer = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if answer is SILENCE:
            self.sender.connected.clear()
            raise UnreachableError("the target: the link is down")
        self.sender.connected.set()
        return answer

    def move(self, event: str) -> None:
        self.state = move(self.state, event)

    def resume(self, event: str) -> None:
        self.resumed += 1
        self.note.set("undone")
        self.move(event)


class Scene:
    def __init__(self, directory: Any, says: list[dict[str, Any]], live: bool = True, stuck: int = 0) -> None:
        save(os.fsencode(directory), Handover("a", "night", time.time() - 3, time.time(), {"fence": 1.0}, {}))
        self.agent = Agent(directory, says)
        self.fenced = True
        self.stuck = stuck
        self.told: list[tuple[str, str]] = []
        self.waiting = Waiting(self.agent, self.back, lambda *what: self.told.append(what), live)  # type: ignore[arg-type]

    def back(self) -> None:
        if self.stuck:
            self.stuck -= 1
            raise StateError("the fence is not down")
        self.fenced = False

    def run(self, seconds: float = 0.0, stop: threading.Event | None = None) -> None:
        """Until it ends; with ``seconds`` it must not, and is stopped (earlier by whoever sets ``stop``)."""
        stop = stop or threading.Event()
        timer = threading.Timer(seconds or 20, stop.set)
        timer.start()
        try:
            self.waiting.run(stop)
        finally:
            timer.cancel()
            timer.join()
        assert stop.is_set() == bool(seconds)

    @property
    def record(self) -> Handover:
        found = load(self.agent.config.directory)
        assert found is not None
        return found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "EVERY", 0.01)
    monkeypatch.setattr(waiting, "EVERY_SERVED", 0.02)


def test_it_is_told_to_go_and_confirms(tmp_path):
    going, booted = OLD | {"phase": "going"}, NEW | {"phase": "booted"}
    confirmed = NEW | {"phase": "confirmed", "confirmed": True, "boot": {"kernel": 4.5}}
    scene = Scene(tmp_path, [going, going, SILENCE, SILENCE, booted, confirmed])
    scene.run(0.6)
    assert scene.agent.asked[:2] == ["go", "standing"]
    assert scene.agent.asked.count("go") == 1
    assert scene.fenced
    assert scene.agent.state is State.SERVED
    assert scene.agent.note.state == "served"
    assert scene.told == [("serve", "")]
    record = scene.record
    assert record.outcome == "served"
    assert record.handed <= record.silent <= record.heard <= record.ended
    assert record.boot == {"kernel": 4.5}
    assert set(record.split()) == {"fence", "shutdown", "boot", "confirm"}
    assert record.outage is not None and record.outage >= 3
    assert scene.waiting.text().startswith("the new system serves")


@pytest.mark.parametrize("phase", ["idle", "returned"])
def test_the_old_system_stands_so_the_source_serves_and_says_why(tmp_path, phase):
    back = OLD | {"phase": phase, "reason": "the watchdog ended it"}
    scene = Scene(tmp_path, [OLD | {"phase": "going"}, SILENCE, back])
    scene.run()
    assert not scene.fenced
    assert scene.agent.state is State.FOLLOWING
    assert scene.agent.note.state == "undone"
    assert scene.agent.resumed == 1
    assert (scene.record.outcome, scene.record.reason) == ("back", "the watchdog ended it")
    assert scene.told == [("back", "the watchdog ended it")]


def test_it_serves_within_a_second_of_knowing(tmp_path, monkeypatch):
    monkeypatch.undo()  # the real pace
    knew: list[float] = []
    scene = Scene(tmp_path, [OLD | {"phase": "returned"}])
    scene.waiting._back = lambda: knew.append(time.monotonic())
    began = time.monotonic()
    scene.run()
    assert knew[0] - began < 1.0


def test_silence_is_waited_out_and_told_loudly(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(waiting, "LOUD", 0.05)
    scene = Scene(tmp_path, [SILENCE])
    stop = threading.Event()
    ask = scene.agent.ask

    def ask_until_told(*args: Any, **more: Any) -> dict[str, Any]:
        if caplog.text.count("handed over, waiting for") >= 3:
            stop.set()
        return ask(*args, **more)

    scene.agent.stage.ask = ask_until_told
    scene.run(20, stop)
    assert scene.fenced
    assert scene.agent.state is State.HANDED
    assert caplog.text.count("handed over, waiting for") >= 3
    assert "the target has been silent for" in scene.waiting.text()
    assert scene.record.outcome == ""


@pytest.mark.parametrize(
    "answer",
    [
        NEW | {"phase": "booted"},
        NEW | {"phase": "confirmed", "confirmed": True, "attempt": "other"},
        {"system": "mixed", "phase": "", "attempt": "a", "confirmed": True},
        OLD | {"phase": "going"},
        {},
    ],
)
def test_whatever_else_it_says_the_source_stays_fenced(tmp_path, answer):
    scene = Scene(tmp_path, [answer or {"x": 1}])
    scene.run(0.2)
    assert scene.fenced and scene.agent.state is State.HANDED


def test_a_go_that_was_lost_is_said_again(tmp_path):
    armed, confirmed = OLD | {"phase": "armed"}, NEW | {"phase": "confirmed", "confirmed": True}
    scene = Scene(tmp_path, [armed, armed, SILENCE, confirmed])
    scene.run(0.4)
    assert scene.agent.asked[:5] == ["go", "standing", "go", "standing", "go"]
    assert scene.agent.state is State.SERVED


def test_a_go_that_is_refused_leads_back(tmp_path):
    scene = Scene(tmp_path, [OLD | {"phase": "idle"}])
    scene.agent.refuses = {"go"}
    scene.run()
    assert not scene.fenced
    assert "has nothing armed" in scene.record.reason


def test_an_agent_that_was_started_again_sends_nobody_off(tmp_path):
    """In between the source may have served: what the target has is old by now."""
    scene = Scene(tmp_path, [OLD | {"phase": "armed"}, OLD | {"phase": "armed"}, OLD | {"phase": "idle"}], live=False)
    scene.run()
    assert "go" not in scene.agent.asked
    assert scene.agent.asked.count("disarm") == 2
    assert not scene.fenced


def test_a_new_system_that_falls_back_later_leads_back_too(tmp_path):
    """Until the commit each boot is counted; one that never comes up leads back."""
    confirmed = NEW | {"phase": "confirmed", "confirmed": True}
    scene = Scene(tmp_path, [confirmed, SILENCE, OLD | {"phase": "returned", "reason": "three boots failed"}])
    scene.run()
    assert not scene.fenced
    assert [event for event, _ in scene.told] == ["serve", "back"]
    assert scene.record.reason == "three boots failed"


def test_rollback_leads_the_new_system_back_and_serves_only_then(tmp_path):
    confirmed = NEW | {"phase": "confirmed", "confirmed": True}
    going_back = NEW | {"phase": "going back", "confirmed": True}
    scene = Scene(tmp_path, [confirmed, confirmed, going_back, SILENCE, OLD | {"phase": "returned"}])
    scene.waiting.wants_back = "rolled back by the operator"
    seen: list[bool] = []
    ask = scene.agent.ask

    def watched(verb: str, deadline: float, attempt: str) -> dict[str, Any]:
        seen.append(scene.fenced)
        return ask(verb, deadline, attempt)

    scene.agent.stage.ask = watched
    scene.run()
    assert all(seen), "fenced for as long as anything was asked"
    assert scene.agent.asked.count("back") == 2
    assert scene.record.reason == "rolled back by the operator"
    assert not scene.waiting.wants_back


def test_rollback_of_one_that_has_not_gone_disarms_it(tmp_path):
    scene = Scene(tmp_path, [OLD | {"phase": "armed"}, OLD | {"phase": "idle"}], live=False)
    scene.waiting.wants_back = "rolled back by the operator"
    scene.run()
    assert "disarm" in scene.agent.asked and "back" not in scene.agent.asked
    assert not scene.fenced


def test_the_operator_may_say_that_the_new_system_is_off(tmp_path):
    scene = Scene(tmp_path, [SILENCE])
    stop = threading.Event()
    thread = threading.Thread(target=scene.waiting.run, args=(stop,))
    thread.start()
    try:
        time.sleep(0.1)
        scene.waiting.give_up("the operator says that the new system is off")
    finally:
        stop.set()
        thread.join(10)
    assert not scene.fenced
    assert scene.agent.state is State.FOLLOWING
    scene.waiting.give_up("again")
    assert scene.agent.resumed == 1, "once is enough"


def test_a_fence_that_does_not_come_down_at_first_is_tried_again(tmp_path):
    scene = Scene(tmp_path, [OLD | {"phase": "returned"}], stuck=3)
    scene.run()
    assert not scene.fenced
    assert scene.agent.resumed == 1


def test_without_a_record_nothing_is_guessed(tmp_path):
    scene = Scene(tmp_path, [OLD | {"phase": "idle"}])
    (tmp_path / "handover.json").unlink()
    scene.waiting = Waiting(scene.agent, scene.back, lambda *what: None, False)  # type: ignore[arg-type]
    scene.run(0.1)
    assert scene.fenced
    assert scene.agent.asked == []
