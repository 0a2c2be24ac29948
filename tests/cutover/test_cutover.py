from __future__ import annotations

import time

import pytest

from livelift.cutover.cutover import Cutover
from livelift.errors import MismatchError, ProgramError, RetryError, StateError
from livelift.lifecycle.states import State, move
from livelift.model.verdict import Verdict

EQUAL = Verdict(0, [], {}, [])
DIFFERENT = Verdict(2, ["a: content", "b: mode"], {}, ["a", "b"])
GAPS = ["object 7: unreadable"]


class Scene:
    """The source and the fence in one: writes down every call, and obeys the table of job states as the agent does.

    ``verdicts``: what each verification finds, the last for ever; ``gaps`` likewise. ``fails``: the call that raises.
    """

    name = "a fence"

    def __init__(self, verdicts=(EQUAL,), gaps=((),), fails: str = "") -> None:
        self.calls: list[str] = []
        self.state = State.FOLLOWING
        self.verdicts = list(verdicts)
        self.gaps = list(gaps)
        self.fails = fails
        self.fenced = False
        self.failed_at = self.fence_down_at = 0.0
        self.deadlines: set[float] = set()

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fails:
            self.failed_at = time.monotonic()
            raise RetryError(name)

    def move(self, event: str) -> None:
        self.state = move(self.state, event)

    def up(self) -> None:
        self._call("up")
        self.fenced = True

    def down(self) -> None:
        self.fenced = False
        self.fence_down_at = time.monotonic()
        self.calls.append("down")

    def ready(self) -> None:
        assert not self.fenced
        self._call("ready")

    def check(self) -> None:
        assert self.fenced
        self._call("check")

    def hold(self) -> None:
        raise AssertionError("nobody goes away here")

    def prepare(self, deadline: float) -> None:
        assert not self.fenced
        self.deadlines.add(deadline)
        self._call("prepare")

    def drain(self, deadline: float) -> None:
        assert self.fenced
        assert self.state is State.DRAINING
        self.deadlines.add(deadline)
        self._call("drain")

    def verify(self, deadline: float) -> Verdict:
        assert self.fenced
        assert self.state is State.VERIFYING
        self.deadlines.add(deadline)
        self._call("verify")
        return self.verdicts.pop(0) if len(self.verdicts) > 1 else self.verdicts[0]

    def repair(self, verdict: Verdict) -> None:
        assert verdict.found
        self._call("repair")

    def open_gaps(self) -> list[str]:
        return list(self.gaps.pop(0) if len(self.gaps) > 1 else self.gaps[0])

    def cut(self, label: str, deadline: float) -> int:
        assert self.fenced
        assert label == "night"
        self.deadlines.add(deadline)
        self._call("cut")
        return 4711


def attempt(scene: Scene, clock=time.monotonic) -> Cutover:
    return Cutover(scene, scene, "night", 100.0, clock)


def test_the_order_and_what_was_measured():
    scene = Scene()
    ticks = iter(range(0, 1000, 5))
    cutover = attempt(scene, lambda: float(next(ticks)))
    assert list(cutover.run()) == ["prepare", "fence", "drain", "verify", "cut"]
    assert scene.calls == ["prepare", "ready", "up", "drain", "verify", "check", "cut"]
    assert scene.state is State.CUT
    assert scene.fenced, "the source stays fenced after the cut"
    assert scene.deadlines == {100.0}
    assert cutover.result == (4711, 20.0, 5.0, 5.0, 5.0, EQUAL)
    cutover.fence_down()
    assert not scene.fenced


@pytest.mark.parametrize("step", ["prepare", "ready", "up", "drain", "verify", "repair", "check", "cut"])
def test_a_failure_at_any_step_lets_the_workload_go_within_a_second(step):
    scene = Scene([DIFFERENT, EQUAL], fails=step)
    cutover = attempt(scene)
    with pytest.raises(RetryError, match=step):
        list(cutover.run())
    assert not scene.fenced
    assert scene.state is State.FOLLOWING
    assert cutover.result is None
    if step == "prepare":
        assert scene.calls == ["prepare"], "there was nothing to take down"
    else:
        assert scene.calls[-1] == "down", "taken down last, and nothing done after it"
        assert scene.fence_down_at - scene.failed_at < 1.0


def test_differences_are_read_again_twice():
    scene = Scene([DIFFERENT, DIFFERENT, EQUAL])
    list(attempt(scene).run())
    again = ["drain", "verify", "repair"]
    assert scene.calls == ["prepare", "ready", "up", *again, *again, "drain", "verify", "check", "cut"]
    assert scene.state is State.CUT


def test_differences_that_stay_are_a_mismatch_and_never_a_cut():
    scene = Scene([DIFFERENT])
    with pytest.raises(MismatchError) as found:
        list(attempt(scene).run())
    assert "2 differences: a: content; b: mode" in str(found.value)
    assert scene.calls.count("verify") == 1 + Cutover.REPAIRS
    assert "cut" not in scene.calls
    assert not scene.fenced


@pytest.mark.parametrize("verdict", [EQUAL, DIFFERENT])
def test_an_open_gap_refuses_the_cut(verdict):
    scene = Scene([verdict], [GAPS])
    with pytest.raises(StateError, match="1 gaps are open: object 7: unreadable"):
        list(attempt(scene).run())
    assert "cut" not in scene.calls
    assert not scene.fenced
    assert scene.state is State.FOLLOWING


def test_a_gap_that_the_repair_closed_is_none():
    scene = Scene([DIFFERENT, EQUAL], [GAPS, []])
    list(attempt(scene).run())
    assert scene.calls[-1] == "cut"


def test_the_operator_goes_away_while_fenced():
    scene = Scene()
    going = attempt(scene).run()
    while next(going) != "verify":
        pass
    assert scene.fenced
    going.close()
    assert not scene.fenced
    assert scene.state is State.FOLLOWING


def test_a_fence_that_cannot_be_taken_down_is_told_and_the_state_stays_honest(caplog):
    scene = Scene(fails="drain")

    def stuck() -> None:
        raise OSError("the cgroup is gone")

    scene.down = stuck
    with pytest.raises(RetryError, match="drain"):
        list(attempt(scene).run())
    assert "undo of fence failed" in caplog.text
    assert scene.state is State.DRAINING, "not said to be following while the fence may be up"


@pytest.mark.parametrize("state", [State.CUT, State.VERIFYING, State.INITIAL])
def test_an_attempt_that_is_refused_leaves_the_fence_of_another_alone(state):
    """Two operators: the second one's prepare ends when the first has cut. Thawing now would split the brain."""
    scene = Scene()
    going = attempt(scene).run()
    assert [next(going), next(going)] == ["prepare", "fence"]
    scene.state, scene.fenced = state, True
    with pytest.raises(StateError, match="fence is not possible"):
        list(going)
    assert scene.fenced
    assert scene.state is state


class Hooks:
    """Writes down what is asked of it in between, and fails at one."""

    def __init__(self, scene: Scene, fails: str = "") -> None:
        self.scene = scene
        self.fails = fails
        self.errors: list[str] = []

    def __call__(self, step: str, when: str, error: str = "") -> None:
        if error:
            self.errors.append(error)
        self.scene.calls.append(f"{step}.{when}")
        if self.fails == f"{step}.{when}":
            raise ProgramError(f"hook {self.fails}")


def test_hooks_stand_around_each_step():
    scene = Scene()
    list(Cutover(scene, scene, "night", 100.0, hook=Hooks(scene)).run())
    assert scene.calls == [
        *("prepare.before", "prepare", "prepare.after", "fence.before", "ready", "up", "fence.after"),
        *("drain.before", "drain", "drain.after", "verify.before", "verify", "verify.after"),
        *("cut.before", "check", "cut", "cut.after"),
    ]


@pytest.mark.parametrize("step", ["prepare", "fence", "drain", "verify", "cut"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_hook_that_fails_fails_the_step_and_is_told_to_the_last_hook(step, when):
    scene = Scene()
    hooks = Hooks(scene, f"{step}.{when}")
    with pytest.raises(ProgramError, match=f"hook {step}.{when}"):
        list(Cutover(scene, scene, "night", 100.0, hook=hooks).run())
    assert not scene.fenced
    assert scene.state is State.FOLLOWING
    assert scene.calls[-1] == "abort.after", "when all is undone"
    assert hooks.errors == [f"{step}: hook {step}.{when}"]


def test_hooks_after_an_abort_can_break_nothing(caplog):
    scene = Scene(fails="drain")
    with pytest.raises(RetryError, match="drain"):
        list(Cutover(scene, scene, "night", 100.0, hook=Hooks(scene, "abort.after")).run())
    assert "hook abort.after" in caplog.text
