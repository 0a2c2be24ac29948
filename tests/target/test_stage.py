"""Every question gets one answer: a result, or an error with its remedy; one step at a time."""

from __future__ import annotations

import json
import threading
from typing import Any

from livelift.errors import StateError
from livelift.protocol.messages import StageAnswer, StageAsk
from livelift.target.stage import Stage


def body(answer: StageAnswer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.body)
    return found


def test_a_step_gets_its_options_and_its_result_is_the_answer():
    stage = Stage({"double": lambda options: {"twice": options["number"] * 2}})
    answer = stage.answer(StageAsk(7, "double", b'{"number": 21}'))
    assert answer.ok and answer.id == 7 and body(answer) == {"twice": 42}


def test_errors_are_answers():
    def fail(options: dict[str, Any]) -> dict[str, Any]:
        raise StateError("not now", remedy="later")

    def crash(options: dict[str, Any]) -> dict[str, Any]:
        raise ZeroDivisionError

    stage = Stage({"fail": fail, "crash": crash})
    answer = stage.answer(StageAsk(1, "fail"))
    assert not answer.ok
    assert body(answer) == {"code": "state", "text": "not now", "remedy": "later", "exit": 6}
    assert "ZeroDivisionError" in body(stage.answer(StageAsk(2, "crash")))["text"]
    assert "does not know" in body(stage.answer(StageAsk(3, "other")))["text"]
    assert not stage.answer(StageAsk(4, "fail", b"[]")).ok
    assert not stage.answer(StageAsk(4, "fail", b"\xff")).ok


def test_one_step_at_a_time_but_the_status_is_told():
    begun, go, answers = threading.Event(), threading.Event(), []

    def slow(options: dict[str, Any]) -> dict[str, Any]:
        begun.set()
        go.wait(10)
        return {}

    hook = {"hook": lambda options: {"ran": []} if options else {"listing": {}}}
    stage = Stage({"slow": slow, "status": lambda options: {"doing": stage.doing}, **hook})
    done = threading.Event()

    def send(answer: StageAnswer) -> None:
        answers.append(answer)
        done.set()

    stage.handle(StageAsk(1, "slow"), send)
    assert begun.wait(10)
    refused = stage.answer(StageAsk(2, "slow"))
    assert not refused.ok and body(refused)["code"] == "locked"
    assert body(stage.answer(StageAsk(3, "status"))) == {"doing": "slow"}
    assert body(stage.answer(StageAsk(3, "hook"))) == {"listing": {}}, "or a cutover would not wait for the step"
    assert not stage.answer(StageAsk(3, "hook", b'{"step": "fence"}')).ok
    go.set()
    assert done.wait(10)
    assert answers[0].ok
    assert stage.answer(StageAsk(4, "slow")).ok
