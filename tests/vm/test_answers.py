"""The continuity report, from made-up answers: no machine is needed."""

from __future__ import annotations

from tests.vm.answers import Answer, Gap, continuity, gap, held


def commit(door: str, number: int, at: float, error: str = "") -> Answer:
    return Answer("commit", door, 0, number, at - 0.1, at, error)


def request(door: str, number: int, at: float, error: str = "") -> Answer:
    return Answer("request", door, 0, number, at - 0.1, at, error)


MOVED = [
    commit("old", 1, 101), request("old", 1, 101.5), commit("old", 2, 102), commit("old", 3, 105, "frozen"),
    request("old", 2, 105.5, "frozen"), request("new", 3, 106.5), commit("new", 4, 107), commit("new", 5, 108),
]  # fmt: skip


def test_the_report_counts_what_the_clients_saw() -> None:
    report = continuity(100, MOVED)
    assert report.seconds == 8
    assert (report.requests, report.request_failures, report.longest_request_gap) == (3, 1, 5)
    assert (report.commits, report.commit_failures, report.longest_commit_gap) == (4, 1, 5)
    assert report.served_by == ("old", "new")


def test_a_service_that_never_came_back_is_a_gap_too() -> None:
    assert gap(100, [commit("old", 1, 101), commit("old", 2, 150, "frozen")]) == Gap(101, 150)
    assert gap(100, [commit("old", 1, 130, "frozen")]) == Gap(100, 130)
    assert gap(100, []).seconds == 0


def test_both_serving_in_turn_is_seen() -> None:
    assert continuity(100, [*MOVED, commit("old", 6, 109)]).served_by == ("old", "new", "old")


def test_what_was_acknowledged_has_to_be_there() -> None:
    assert held(MOVED, [(0, 1), (0, 2), (0, 4), (0, 5)], 0).missing == ()
    lost = held(MOVED, [(0, 1), (0, 3), (0, 4)], 2)
    assert (lost.acknowledged, lost.missing, lost.unacknowledged, lost.torn) == (4, ((0, 2), (0, 5)), 1, 2)
