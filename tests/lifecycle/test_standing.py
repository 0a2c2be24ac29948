from __future__ import annotations

import itertools

import pytest

from livelift.lifecycle.standing import Answer, Phase, System, Verdict, decide, parse

SYSTEMS = [*System, "", "other"]
PHASES = [*Phase, "", "other"]
ALL = [
    Answer(system, phase, attempt, confirmed, False, "", {})
    for system, phase, attempt, confirmed in itertools.product(SYSTEMS, PHASES, ("a", "b", ""), (False, True))
]


def test_the_source_serves_again_only_when_the_old_system_stands_and_stays():
    back = {(a.system, a.phase) for a in ALL if decide(a, "a") is Verdict.BACK}
    assert back == {("old", "idle"), ("old", "returned")}


def test_the_move_is_done_only_when_the_new_system_of_this_attempt_has_confirmed():
    for answer in ALL:
        if decide(answer, "a") is Verdict.SERVED:
            assert answer.system == "new" and answer.confirmed and answer.attempt == "a"
            assert answer.phase != "going back"
    assert decide(Answer("new", "confirmed", "a", True, False, "", {}), "a") is Verdict.SERVED


def test_a_lost_go_is_asked_again_and_only_of_who_is_armed_for_it():
    assert [(a.system, a.phase, a.attempt) for a in ALL if decide(a, "a") is Verdict.GO] == [("old", "armed", "a")] * 2


@pytest.mark.parametrize("body", [{}, {"system": None, "boot": []}, {"confirmed": "yes", "system": "new"}])
def test_an_answer_that_says_nothing_changes_nothing(body):
    assert decide(parse(body), "a") is Verdict.WAIT


def test_parse():
    body = {"system": "new", "phase": "confirmed", "attempt": "a", "confirmed": True, "committed": True, "reason": "r",
            "boot": {"kernel": 2, "stage": 0.5, "note": "x"}}  # fmt: skip
    assert parse(body) == Answer("new", "confirmed", "a", True, True, "r", {"kernel": 2.0, "stage": 0.5})
