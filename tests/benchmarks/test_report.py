"""Medians, ratios and the JSON file."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.report import Row, medians, table, write_json


def rows() -> list[Row]:
    return [
        Row("tiny", peer, True, {"wall s": wall, "rate/s": rate})
        for wall, rate in ((1.0, 100.0), (9.0, 300.0), (2.0, 200.0))
        for peer in ("livelift", "other")
    ] + [Row("tiny", "slow", False, {"wall s": 6.0, "rate/s": 50.0})]


def test_the_median_of_each_peer() -> None:
    summary = {row.peer: row.values for row in medians(rows())}
    assert summary["livelift"] == summary["other"] == {"wall s": 2.0, "rate/s": 200.0}


def test_a_ratio_above_one_means_that_livelift_is_better() -> None:
    line = next(line for line in table(rows()).splitlines() if line.startswith("slow (clear)"))
    assert "6.00 (3.00x)" in line
    assert "50.0 (4.00x)" in line, "of a rate more is better"


def test_without_livelift_there_are_no_ratios() -> None:
    text = table(row for row in rows() if row.peer != "livelift")
    assert "x)" not in text and "slow (clear)" in text


def test_the_file_holds_every_run(tmp_path: Path) -> None:
    write_json(tmp_path / "out.json", rows(), quick=True)
    document = json.loads((tmp_path / "out.json").read_text())
    assert len(document["runs"]) == 7 and len(document["medians"]) == 3
    assert document["quick"] is True and document["machine"]["cores"] > 0
