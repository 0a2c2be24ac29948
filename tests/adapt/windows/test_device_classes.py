"""Trees that are keyed by devices and hardware profiles."""

from __future__ import annotations

from livelift.adapt.windows.apply import same_tree
from livelift.adapt.windows.device_classes import RULE
from livelift.registry.values import set_text
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


def test_display_settings_are_united() -> None:
    source, target = pair()
    set_text(source.cs.make("Control\\Video\\{1}"), "of", "old")
    set_text(target.cs.make("Control\\Video\\{2}"), "of", "new")
    video = run(RULE, source, target).control("Control\\Video")
    assert video is not None and [key.name for key in video] == ["{1}", "{2}"]
