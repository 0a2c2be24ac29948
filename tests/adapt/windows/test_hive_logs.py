"""Logs beside replaced hives."""

from __future__ import annotations

import pytest

from livelift.adapt.changes import DeleteFile, SetValue
from livelift.adapt.windows import control_sets
from livelift.adapt.windows.hive_logs import RULE, is_log
from livelift.registry.values import SZ
from tests.adapt.windows.machine import ids, pair, run


@pytest.mark.parametrize(
    ("name", "log"),
    [
        ("SYSTEM.LOG", True),
        ("system.log1", True),
        ("SYSTEM.LOG2", True),
        ("SYSTEM{1c37910b-b8ad-11e8-aa21-e41d2d101530}.TM.blf", True),
        ("SYSTEM{1c37910b-b8ad-11e8-aa21-e41d2d101530}.TMContainer00000000000000000001.regtrans-ms", True),
        ("SYSTEM", False),
        ("SYSTEM.SAV", False),
        ("SYSTEMX.LOG1", False),
        ("SOFTWARE.LOG1", False),
    ],
)
def test_names(name: str, log: bool) -> None:
    assert is_log("SYSTEM", name) is log


def test_only_logs_of_hives_that_change_go() -> None:
    source, target = pair()
    config = "Windows/System32/config"
    source.file(f"{config}/SOFTWARE.LOG1")
    source.file(f"{config}/DRIVERS.LOG1")
    source.file(f"{config}/SYSTEM.LOG2")
    bench = run(control_sets.RULE, source, target)
    RULE.plan(bench)
    assert ids(bench) == []
    bench.edit("x", "y", SetValue("SYSTEM", "Setup", "a", SZ, b""))
    RULE.plan(bench)
    assert [c.path for c in bench.draft.plan("").changes(DeleteFile)] == [
        f"{config}/SYSTEM.LOG1",
        f"{config}/SYSTEM.LOG2",
    ]
