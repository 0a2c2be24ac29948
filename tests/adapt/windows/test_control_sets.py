"""Select of the merged hive."""

from __future__ import annotations

from livelift.adapt.windows.control_sets import RULE
from livelift.adapt.windows.system import SYSTEM
from livelift.registry.values import number_of, set_number
from tests.adapt.windows.machine import ids, pair, run


def test_every_name_of_select_is_the_merged_set() -> None:
    source, target = pair()
    source.root.make("ControlSet002")
    set_number(source.root.make("Select"), "LastKnownGood", 2)
    set_number(source.root.make("Select"), "Failed", 2)
    bench = run(RULE, source, target)
    assert ids(bench) == ["control-sets/lastknowngood", "control-sets/failed"]
    select = bench.merged[SYSTEM].find("Select")
    assert select is not None
    assert [number_of(value) for value in select.values] == [1, 1, 1, 0]


def test_a_set_that_is_right_needs_no_edit() -> None:
    assert ids(run(RULE, *pair())) == []
