from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from livelift.model.job import Map
from livelift.source import governor as module
from livelift.source.config import SourceConfig
from livelift.source.governor import CGROUP_LIMIT, LOWEST, Governor


class Reader:
    duty = 1.0
    cpu = 0.0


def governor(**settings) -> Governor:
    return Governor(SourceConfig(b"/s", "j", "h", 1, (Map(b"/a", b"/b"),), **settings), [])


def test_without_a_limit_nothing_is_slowed():
    free = governor()
    free.step(100.0, 99.0)
    assert free.duty == 1.0
    assert "no ceiling" in free.describe()


@pytest.mark.parametrize(("settings", "over"), [({"cpu_limit": 50.0}, (51, 0)), ({"pressure_limit": 10.0}, (0, 11))])
def test_down_by_half_up_by_a_tenth_and_never_to_a_stop(settings, over):
    limited = governor(**settings)
    limited.step(*over)
    assert limited.duty == 0.5
    limited.step(*over)
    assert limited.duty == 0.25
    for _ in range(20):
        limited.step(*over)
    assert limited.duty == LOWEST
    limited.step(0, 0)
    assert LOWEST < limited.duty < 2 * LOWEST
    for _ in range(60):
        limited.step(0, 0)
    assert limited.duty == 1.0


def test_at_the_limit_is_not_over_it():
    limited = governor(cpu_limit=50.0, pressure_limit=10.0)
    limited.step(50.0, 10.0)
    assert limited.duty == 1.0
    assert "50 % of one core" in limited.describe()
    assert "/proc/pressure" in limited.describe()


def test_the_worst_io_stall_of_the_workloads_cgroups_counts(tmp_path: Path):
    """Not their CPU: a database that computes is stalled for CPU by itself."""
    groups = []
    for number, (io, cpu) in enumerate([(5.0, 99.0), (61.5, 0.0)]):
        group = tmp_path / str(number)
        group.mkdir()
        for name, value in (("io", io), ("cpu", cpu)):
            rest = "avg60=0.00 avg300=0.00 total=1"
            text = f"some avg10={value:.2f} {rest}\nfull avg10=0.00 {rest}\n"
            (group / f"{name}.pressure").write_text(text)
        groups.append(os.fsencode(group))
    watching = governor(fence=(*groups, b"/nowhere"))
    assert watching._limit == CGROUP_LIMIT, "the workload's own stall is a limit without being asked for"
    assert watching._stall() == 61.5
    watching.step(0.0, watching._stall())
    assert watching.duty == 0.5
    assert watching.stalled == 61.5


def test_the_readers_are_told(monkeypatch):
    monkeypatch.setattr(module, "EVERY", 0.01)
    reader, stop = Reader(), threading.Event()
    limited = governor(cpu_limit=50.0)
    limited._readers = [reader]
    monkeypatch.setattr(limited, "_stall", lambda: 0.0)
    steps = []

    def step(cpu: float, stall: float) -> None:
        steps.append(cpu)
        limited.duty = 0.3
        stop.set()

    monkeypatch.setattr(limited, "step", step)
    limited.run(stop)
    assert reader.duty == 0.3
    assert len(steps) == 1
    assert steps[0] >= 0


def test_the_reader_processes_count():
    """Their CPU is not in this process's own."""
    reader = Reader()
    limited = governor(cpu_limit=50.0)
    limited._readers = [reader]
    before = limited._used()
    reader.cpu = 100.0
    assert 100.0 <= limited._used() - before < 110.0
