"""When a position is a cut, what stands in its way, and what becomes of a cut that did not arrive whole."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from livelift.errors import LockedError, StateError, UnreachableError
from livelift.lifecycle.states import State
from livelift.model.record import Kind
from livelift.source import cuts as module
from livelift.source.cuts import Cuts


class FakeAgent:
    """Everything at rest. ``passed``: what the follower says between two batches, in a thread of its own."""

    def __init__(self) -> None:
        self.state = State.FOLLOWING
        self.capture: Any = SimpleNamespace(passed=0, produced=lambda: 100, why_not=lambda: "")
        self.choice = SimpleNamespace(name="ebpf", blind_to=())
        self.journal = SimpleNamespace(lock=threading.RLock(), late=50, put=self._put)
        self.gaps: Any = SizedNamespace(0, openings=3)
        self.healer = SimpleNamespace(resyncs=1)
        self.walker = SimpleNamespace(queue=SimpleNamespace(idle=lambda: True))
        self.bulk: Any = SizedNamespace(0, idle=lambda: True)
        self.dirty = SimpleNamespace(content=lambda: 0, busy=0)
        self.brackets: list[int] = []
        self.pause = threading.Event()
        self.sender = SimpleNamespace(connected=threading.Event())
        self.sender.connected.set()
        self.changes = SimpleNamespace(still=threading.Event())
        self.follower = SimpleNamespace(idle=True, at_rest=module._nothing)
        self.stage = SimpleNamespace(ask=self._ask)
        self.drain = SimpleNamespace(wait_applied=lambda lsn, deadline: None)
        self.asked: list[str] = []
        self.marks: list[tuple[Kind, str]] = []
        self.passed = 100
        self.answers: dict[str, Any] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def _follow(self) -> None:
        while not self._stop.wait(0.002):
            self.follower.at_rest(self.passed)

    def _put(self, kind: Kind, body: Any, time: int = 0) -> int:
        self.marks.append((kind, body.label))
        return 41 + len(self.marks)

    def _ask(self, verb: str, deadline: float, **options: Any) -> dict[str, Any]:
        self.asked.append(verb)
        answer = self.answers.get(verb, {})
        if isinstance(answer, Exception):
            raise answer
        return answer() if callable(answer) else answer  # type: ignore[no-any-return]

    def check(self) -> None:
        return

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


class SizedNamespace(SimpleNamespace):
    def __init__(self, size: int, **fields: Any) -> None:
        super().__init__(**fields)
        self.size = size

    def __len__(self) -> int:
        return self.size


@pytest.fixture
def agent():
    agent = FakeAgent()
    yield agent
    agent.close()


def cut(agent: FakeAgent, **request: Any) -> list[dict[str, Any]]:
    return list(Cuts(agent).run({"timeout": 5, **request}))  # type: ignore[arg-type]


def test_a_position_at_which_everything_rests(agent: FakeAgent):
    result = cut(agent)[-1]
    assert result["cut_lsn"] == 42 and result["attempts"] == 1 and result["capture_mode"] == "ebpf"
    ((kind, label),) = agent.marks
    assert kind is Kind.SYNC and label.startswith("copy:")
    assert agent.asked == [] and not agent.changes.still.is_set() and agent.follower.at_rest is module._nothing


def test_a_copy_is_announced_before_the_mark_and_named_after_it_arrived(agent: FakeAgent):
    agent.answers["copy-begin"] = lambda: agent.marks.append((Kind.CUT, "announced")) or {}
    agent.answers["copy-take"] = {"files": 5}
    assert cut(agent, to="/copies/one")[-1]["files"] == 5
    assert agent.asked == ["copy-begin", "copy-take", "copy-keep"]
    assert [kind for kind, _ in agent.marks] == [Kind.CUT, Kind.SYNC]


HINDRANCES = {
    "gaps": lambda agent: setattr(agent.gaps, "size", 1),
    "directories": lambda agent: setattr(agent.walker.queue, "idle", lambda: False),
    "big files": lambda agent: setattr(agent.bulk, "idle", lambda: False),
    "changed files": lambda agent: setattr(agent.dirty, "content", lambda: 2),
    "names": lambda agent: setattr(agent.follower, "idle", False),
    "room in the log": lambda agent: agent.pause.set(),
    "the target": lambda agent: agent.sender.connected.clear(),
    "a reading to end": lambda agent: setattr(agent.dirty, "busy", 1),
    "reading to end": lambda agent: agent.brackets.append(7),
    "read late": lambda agent: setattr(agent.journal, "late", 101),
    "when the cut was asked for": lambda agent: setattr(agent, "passed", 99),
}


@pytest.mark.parametrize("what", HINDRANCES)
def test_what_is_not_at_rest_is_waited_for_and_named(agent: FakeAgent, what: str):
    HINDRANCES[what](agent)
    with pytest.raises(StateError, match=f"timed out .*{what}"):
        cut(agent, timeout=0.3, to="/copies/one")
    assert agent.marks == [] and agent.asked == ["copy-begin", "copy-drop"]
    assert not agent.changes.still.is_set()


def test_progress_says_what_is_waited_for(agent: FakeAgent):
    agent.gaps.size = 2
    lines = []
    for line in Cuts(agent).run({"timeout": 20}):  # type: ignore[arg-type]
        lines.append(line)
        agent.gaps.size = 0
    assert lines[0] == {"step": "wait", "for": "2 gaps to close", "seconds": lines[0]["seconds"]}
    assert lines[-1]["cut_lsn"] == 42


@pytest.mark.parametrize("trouble", ["gap", "resync"])
def test_what_did_not_arrive_whole_is_cut_again(agent: FakeAgent, trouble: str):
    troubles = [1]

    def lose() -> dict[str, Any]:
        if troubles:
            troubles.pop()
            agent.gaps.openings += trouble == "gap"
            agent.healer.resyncs += trouble == "resync"
        return {}

    agent.answers["copy-take"] = lose
    lines = cut(agent, to="/copies/one")
    assert lines[-1]["attempts"] == 2 and {"step": "again"}.items() <= lines[-4].items() | lines[-3].items()
    assert agent.asked == ["copy-begin", "copy-take", "copy-drop", "copy-begin", "copy-take", "copy-keep"]
    assert len({label for _, label in agent.marks}) == 2


def test_a_mode_that_reads_late_is_refused_with_the_way_out(agent: FakeAgent):
    agent.capture = SimpleNamespace()
    agent.choice.name = "fanotify"
    with pytest.raises(StateError, match=r"(?s)fanotify reads late.*livelift cutover"):
        cut(agent)


def test_a_kernel_on_which_stores_are_not_told_is_refused(agent: FakeAgent):
    agent.choice.blind_to = ("mmap",)
    with pytest.raises(StateError, match=r"(?s)mapped files.*livelift cutover"):
        cut(agent)
    agent.choice.blind_to = ()
    agent.capture.why_not = lambda: "too many mapped files"
    with pytest.raises(StateError, match="too many mapped files"):
        cut(agent)


def test_only_while_following(agent: FakeAgent):
    agent.state = State.INITIAL
    with pytest.raises(StateError, match="initial"):
        cut(agent)


def test_one_at_a_time(agent: FakeAgent):
    agent.gaps.size = 1
    cuts = Cuts(agent)  # type: ignore[arg-type]
    first = cuts.run({"timeout": 60})
    next(first)
    with pytest.raises(LockedError):
        next(cuts.run({}))
    first.close()
    agent.gaps.size = 0
    assert list(cuts.run({"timeout": 5}))[-1]["cut_lsn"] == 42


def test_a_link_that_breaks_is_told_and_the_copy_is_taken_back(agent: FakeAgent):
    agent.answers["copy-take"] = UnreachableError("the target: gone")
    with pytest.raises(UnreachableError):
        cut(agent, to="/copies/one")
    assert agent.asked[-1] == "copy-drop"
