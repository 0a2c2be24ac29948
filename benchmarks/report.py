"""Results: measurements, their medians, the table of ratios and the JSON file."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from benchmarks.peers import LIVELIFT


class Row(NamedTuple):
    """One run of one peer. ``values``: what was measured, by name with unit ("wall s", "CPU s", "lag p95 ms", ...)."""

    case: str
    peer: str
    encrypted: bool
    values: dict[str, float]


def medians(rows: Iterable[Row]) -> list[Row]:
    """One row for each (case, peer), in order of appearance; every value is the median of its runs."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.case, row.peer), []).append(row)
    return [
        group[0]._replace(values={key: statistics.median(row.values[key] for row in group) for key in group[0].values})
        for group in groups.values()
    ]


def table(rows: Iterable[Row]) -> str:
    """Plain text, one block a case. The ratio beside a peer's value is above 1 where Livelift is the better one:
    theirs divided by ours, or for rates ("transactions/s") ours divided by theirs."""
    lines: list[str] = []
    summary = medians(rows)
    for case in dict.fromkeys(row.case for row in summary):
        block = [row for row in summary if row.case == case]
        ours = next((row.values for row in block if row.peer == LIVELIFT.name), None)
        names = list(block[0].values)
        lines += ["", f"{case}:", f"{'':28}" + "".join(f"{name:>24}" for name in names)]
        for row in block:
            cells = []
            for name in names:
                cell = _number(row.values[name])
                if ours and row.peer != LIVELIFT.name and ours[name] > 0 and row.values[name] > 0:
                    ratio = ours[name] / row.values[name] if name.endswith("/s") else row.values[name] / ours[name]
                    cell += f" ({_number(ratio)}x)"
                cells.append(f"{cell:>24}")
            lines.append(f"{row.peer + ('' if row.encrypted else ' (clear)'):28}" + "".join(cells))
    return "\n".join(lines[1:])


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def write_json(path: Path, rows: list[Row], quick: bool) -> None:
    """All runs and the medians, with what is needed to understand them later."""
    machine = {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    document = {
        "machine": machine,
        "quick": quick,
        "runs": [row._asdict() for row in rows],
        "medians": [row._asdict() for row in medians(rows)],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
