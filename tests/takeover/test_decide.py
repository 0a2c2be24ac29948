"""The stage's decision, for every phase, whatever stands and whatever entry it was started by."""

from __future__ import annotations

import pytest

from livelift.takeover.decide import Limits, decide
from livelift.takeover.records import ARMED, BACK, COMMITTING, CONFIRMED, INSTALLED, PHASES, RETURNED, TRYING, State

SECOND = 1_000_000_000
NOW = 5000 * SECOND
LIMITS = Limits()


def way(state: State | None, standing: str, wish: str = "", limits: Limits = LIMITS) -> str:
    return decide(state, standing, wish, limits, NOW).way


@pytest.mark.parametrize(
    ("state", "standing", "wish", "expected"),
    [
        (State(INSTALLED), "old", "", "stay"),
        (State(INSTALLED), "old", "back", "stay"),
        (State(RETURNED), "old", "", "stay"),
        (State(ARMED), "old", "", "forward"),
        (State(ARMED), "old", "back", "back"),
        (State(TRYING, attempts=1), "old", "", "back"),
        (State(TRYING, attempts=1), "mixed", "", "forward"),
        (State(TRYING, attempts=1), "new", "", "forward"),
        (State(TRYING, attempts=2), "mixed", "", "back"),
        (State(TRYING, attempts=2), "old", "", "back"),
        (State(TRYING, attempts=1), "mixed", "back", "back"),
        (State(TRYING, attempts=1, starts=1, entered=1), "new", "", "back"),
        (State(CONFIRMED), "new", "", "stay"),
        (State(CONFIRMED), "new", "back", "back"),
        (State(CONFIRMED), "new", "unacknowledged", "back"),
        (State(CONFIRMED, starts=9), "new", "", "stay"),
        (State(BACK), "new", "", "back"),
        (State(BACK), "mixed", "", "back"),
        (State(BACK), "old", "", "back"),
        (State(COMMITTING), "new", "back", "stay"),
        (None, "old", "", "stay"),
        (None, "new", "", "back"),
        (None, "mixed", "", "back"),
    ],
)
def test_table(state: State | None, standing: str, wish: str, expected: str) -> None:
    assert way(state, standing, wish) == expected


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("wish", ["", "back", "unacknowledged", "nonsense"])
def test_a_mixture_is_never_left_as_it_is(phase: str, wish: str) -> None:
    if phase != COMMITTING:  # the swap was settled long before
        assert way(State(phase), "mixed", wish) in ("forward", "back")


def test_more_than_one_start_is_allowed_where_labels_are_written_first() -> None:
    limits = LIMITS._replace(starts=2)
    assert way(State(TRYING, attempts=1, starts=1, entered=1), "new", limits=limits) == "forward"
    assert way(State(TRYING, attempts=1, starts=2, entered=1), "new", limits=limits) == "back"


def test_the_stage_counts_where_grub_cannot() -> None:
    limits = LIMITS._replace(counting="stage", tries=3)
    assert way(State(CONFIRMED, starts=2), "new", limits=limits) == "stay"
    assert way(State(CONFIRMED, starts=3), "new", limits=limits) == "back"


def test_the_reason_tells_what_is_known() -> None:
    entered = State(TRYING, attempts=1, starts=1, entered=NOW - 37 * SECOND)
    assert "went down 37 s after it was started" in decide(entered, "new", "", LIMITS, NOW).reason
    assert "never came to look at itself" in decide(entered, "new", "", LIMITS, NOW).reason
    late = entered._replace(entered=NOW - 640 * SECOND)
    told = decide(late, "new", "", LIMITS, NOW, "nginx.service is failed").reason
    assert "640 s (the watchdog's limit is 600 s)" in told and told.endswith("the last look: nginx.service is failed")
    assert decide(State(BACK, reason="asked for"), "new", "back", LIMITS, NOW).reason == "asked for"
    assert "interrupted 2 times" in decide(State(TRYING, attempts=2), "mixed", "", LIMITS, NOW).reason
    clock_went_back = entered._replace(entered=NOW + 100 * SECOND)
    assert "0 s after" in decide(clock_went_back, "new", "", LIMITS, NOW).reason
