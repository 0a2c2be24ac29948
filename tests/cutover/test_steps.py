from __future__ import annotations

import logging

import pytest

from livelift.cutover.steps import Step, run

NAMES = ["one", "two", "three"]


class Trail:
    """Steps that write down what happens; ``fails``: the one whose work raises, ``stuck``: whose undo raises."""

    def __init__(self, fails: str = "", stuck: str = "") -> None:
        self.done: list[str] = []
        self.fails = fails
        self.stuck = stuck

    def step(self, name: str, undo: bool = True) -> Step:
        def do() -> None:
            self.done.append(name)
            if name == self.fails:
                raise ValueError(name)

        def back() -> None:
            self.done.append("undo " + name)
            if name == self.stuck:
                raise OSError(name)

        return Step(name, do, back if undo else None)


def test_each_name_is_told_before_its_step_begins():
    trail = Trail()
    seen = []
    for name in run([trail.step(n) for n in NAMES]):
        seen.append((name, list(trail.done)))
    assert seen == [("one", []), ("two", ["one"]), ("three", ["one", "two"])]
    assert trail.done == NAMES, "nothing is undone after success"


@pytest.mark.parametrize("at", range(3))
def test_a_failure_undoes_the_begun_steps_newest_first(at):
    trail = Trail(NAMES[at])
    with pytest.raises(ValueError, match=NAMES[at]):
        list(run([trail.step(n) for n in NAMES]))
    begun = NAMES[: at + 1]
    assert trail.done == begun + ["undo " + n for n in reversed(begun)]


def test_an_undo_that_fails_does_not_stop_the_others_and_is_told(caplog):
    trail = Trail("three", stuck="two")
    with caplog.at_level(logging.ERROR), pytest.raises(ValueError, match="three"):
        list(run([trail.step(n) for n in NAMES]))
    assert trail.done[-2:] == ["undo two", "undo one"]
    assert "undo of two failed" in caplog.text


def test_steps_without_an_undo_are_passed_over():
    trail = Trail("three")
    with pytest.raises(ValueError, match="three"):
        list(run([trail.step("one"), trail.step("two", undo=False), trail.step("three", undo=False)]))
    assert trail.done == ["one", "two", "three", "undo one"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, GeneratorExit])
def test_somebody_who_stops_listening_is_a_failure_too(stop):
    trail = Trail()
    going = run([trail.step(n) for n in NAMES])
    assert [next(going), next(going)] == ["one", "two"]
    if stop is GeneratorExit:
        going.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            going.throw(KeyboardInterrupt())
    assert trail.done == ["one", "undo two", "undo one"]


def test_what_cannot_wait_comes_before_every_other_undo():
    done: list[str] = []

    def fail() -> None:
        raise ValueError

    steps = [
        Step("one", lambda: None, lambda: done.append("undo one"), lambda: done.append("at once one")),
        Step("two", lambda: None, lambda: done.append("undo two")),
        Step("three", fail, None, lambda: done.append("at once three")),
    ]
    with pytest.raises(ValueError):
        list(run(steps))
    assert done == ["at once three", "at once one", "undo two", "undo one"]
