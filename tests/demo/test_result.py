"""The judgement: what makes a run good, and how numbers are shown."""

from __future__ import annotations

import dataclasses
import io
import json

import pytest

from livelift.demo.agents import last_object
from livelift.demo.display import Display, human_bytes, human_seconds, plain_line
from livelift.demo.result import Result, percentile
from livelift.demo.run import summary

GOOD = Result(
    as_root=True, capture_mode="fanotify", files=40_000, bytes=800 << 20, seconds=60.0, initial_seconds=40.0,
    fence_seconds=0.4, lag_p50=0.2, lag_p99=0.9, commits_acknowledged=9000, commits_found=9000, commits_unheard=2,
    accounts_torn=0, differences=0, differences_verified=0, gaps=0, amcheck=[], slowest_commit=0.1,
    postgres_start_seconds=0.5, operations=2000,
)  # fmt: skip


def test_nothing_lost_nothing_different_is_good() -> None:
    assert GOOD.good
    assert json.loads(json.dumps(GOOD.as_json()))["good"] is True
    assert GOOD.throughput == (800 << 20) / 40


@pytest.mark.parametrize(
    "change",
    [
        {"commits_found": 8999},
        {"commits_acknowledged": 0, "commits_found": 0},
        {"accounts_torn": 1},
        {"differences": 1},
        {"differences_verified": 1},
        {"gaps": 1},
        {"amcheck": ["heap table is corrupt"]},
        {"files": 0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_defect_alone_is_a_failure(change: dict[str, object]) -> None:
    assert not dataclasses.replace(GOOD, **change).good  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("samples", "share", "expected"),
    [([], 0.5, 0.0), ([3.0], 0.99, 3.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0), (list(map(float, range(101))), 0.99, 99.0)],
)
def test_percentile_is_the_nearest_rank(samples: list[float], share: float, expected: float) -> None:
    assert percentile(samples[::-1], share) == expected


def test_numbers_for_people() -> None:
    assert human_bytes(512) == "512 B"
    assert human_bytes(3 << 20) == "3.0 MiB"
    assert human_bytes(5 << 40) == "5.0 TiB"
    assert human_seconds(0.25) == "250 ms"
    assert human_seconds(12.34) == "12.3 s"
    assert human_seconds(125) == "2 min 05 s"
    assert human_seconds(None) == "-"


def test_plain_line_shows_what_the_status_has_and_bears_what_it_lacks() -> None:
    status = {"state": "following", "initial_percent": 100.0, "files": 45000, "bytes": 1 << 30, "rate": 1 << 20,
              "lag": 0.3, "backlog": 4096, "eta": 12}  # fmt: skip
    line = plain_line(status, 1234, 61.0)
    for part in ("following", "100.0 %", "45,000 files", "1.0 GiB", "1.0 MiB/s", "eta 12.0 s", "300 ms", "1,234 comm"):
        assert part in line
    assert "starting" in plain_line({"eta": None}, 0, 0.0)


def test_display_without_a_terminal_writes_plain_lines() -> None:
    out = io.StringIO()
    with Display(out) as display:
        display.step("move")
        display.update({"state": "initial"}, 5)
        display.update({"state": "initial"}, 6)  # within five seconds: not shown
        display.table("Result", GOOD.rows())
    lines = out.getvalue().splitlines()
    assert lines[0] == "==> move"
    assert "5 commits" in lines[1]
    assert sum("commits" in line and "initial" in line for line in lines) == 1
    assert any("9,000 / 9,000" in line for line in lines)
    assert "\x1b" not in out.getvalue()


def test_last_object_skips_what_is_not_json() -> None:
    assert last_object('{"a": 1}\nnoise\n{"b": 2}\n[1]\n') == {"b": 2}
    assert last_object("nothing\n") is None


def test_summary_of_a_status_is_short_and_bears_an_empty_one() -> None:
    gaps = [{"path": "/p" * 3000, "reason": "cannot watch it"}] * 50
    text = summary({"state": "initial", "gaps": 50, "gap_list": gaps})
    assert "state initial, gaps 50" in text
    assert text.count("cannot watch it") == 3
    assert len(text) < 600
    assert summary({}) == "no status yet"
