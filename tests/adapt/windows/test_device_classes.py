"""Trees that are keyed by devices and hardware profiles."""

from __future__ import annotations

from livelift.adapt.windows.apply import same_tree
from livelift.adapt.windows.device_classes import RULE
from tests.adapt.windows.machine import findings, pair, run


def test_they_are_the_targets_or_gone() -> None:
    source, target = pair()
    source.cs.make("Control\\DevicePanels\\old")
    bench = run(RULE, source, target)
    for path in ("Control\\DeviceClasses", "Control\\DeviceContainers", "Control\\PnP", "Control\\IDConfigDB"):
        assert same_tree(bench.control(path), bench.target.control(path))
    assert bench.control("Control\\DevicePanels") is None


def test_a_hardware_profile_is_never_left_out() -> None:
    source, target = pair()
    target.cs.remove("Hardware Profiles")
    bench = run(RULE, source, target)
    assert bench.control("Hardware Profiles") is not None and findings(bench) == ["hardware-profile-missing"]
