"""The machine as its firmware tells it."""

from __future__ import annotations

from livelift.adapt.windows.hardware_config import RULE
from livelift.adapt.windows.system import SYSTEM, value_of
from livelift.registry.values import number_of, set_number
from tests.adapt.windows.machine import findings, ids, pair, run


def test_it_is_the_targets() -> None:
    source, target = pair()
    set_number(source.cs.make("Control"), "BootDriverFlags", 28)
    set_number(target.cs.make("Control"), "BootDriverFlags", 4)
    bench = run(RULE, source, target)
    control = bench.control("Control")
    assert value_of(bench.merged[SYSTEM].find("HardwareConfig"), "LastConfig") == "new"
    assert control is not None and number_of(control.value("BootDriverFlags")) == 4


def test_seven_has_none_and_a_target_without_loses_the_sources() -> None:
    assert ids(run(RULE, *pair(7601))) == []
    source, target = pair()
    target.root.remove("HardwareConfig")
    bench = run(RULE, source, target)
    assert bench.merged[SYSTEM].find("HardwareConfig") is None and findings(bench) == ["no-hardware-config"]
