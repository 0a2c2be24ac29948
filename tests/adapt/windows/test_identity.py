"""The guard of what is never mixed."""

from __future__ import annotations

import pytest

from livelift.adapt.changes import GraftKey, SetValue
from livelift.adapt.windows import control_sets
from livelift.adapt.windows.identity import KEYS, RULE
from livelift.registry.values import SZ
from tests.adapt.windows.machine import findings, ids, pair, run


@pytest.mark.parametrize("path", [*(f"ControlSet001\\{key}" for key in KEYS), "WPA"])
def test_an_edit_of_any_of_them_refuses_the_plan(path: str) -> None:
    bench = run(control_sets.RULE, *pair())
    bench.edit("bad", "a mistake", SetValue("SYSTEM", path, "x", SZ, b""))
    RULE.plan(bench)
    assert findings(bench) == ["identity-mixed"]


def test_the_boot_keys_class_names_count() -> None:
    bench = run(control_sets.RULE, *pair())
    bench.edit(
        "bad", "a mistake", GraftKey("SYSTEM", "ControlSet001\\Control\\Lsa\\JD", "ControlSet002\\Control\\Lsa\\JD")
    )
    RULE.plan(bench)
    assert findings(bench) == ["identity-mixed"]


def test_a_hive_without_a_boot_key_is_not_whole() -> None:
    source, target = pair()
    source.cs.make("Control\\Lsa\\GBG").class_name = None
    assert findings(run(RULE, source, target)) == ["no-boot-key"]


def test_it_makes_no_edit() -> None:
    bench = run(RULE, *pair())
    assert ids(bench) == findings(bench) == []
