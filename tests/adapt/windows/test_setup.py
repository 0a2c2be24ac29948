"""The first boot."""

from __future__ import annotations

import pytest

from livelift.adapt.windows.setup import RULE
from livelift.adapt.windows.system import SYSTEM, value_of
from livelift.registry.values import number_of, set_number, set_text
from tests.adapt.windows.machine import findings, ids, pair, run


def test_boot_places_are_the_targets_and_no_setup_goes_on() -> None:
    source, target = pair()
    setup = source.root.make("Setup")
    set_number(setup, "SetupType", 2)
    set_text(setup, "CmdLine", "setup.exe")
    set_text(target.root.make("Setup"), "SystemPartition", "\\Device\\HarddiskVolume3")
    set_text(target.cs.make("Control"), "FirmwareBootDevice", "multi(0)disk(0)rdisk(0)partition(3)")
    bench = run(RULE, source, target)
    merged = bench.merged[SYSTEM].find("Setup")
    assert merged is not None
    assert value_of(merged, "SystemPartition") == "\\Device\\HarddiskVolume3"
    assert number_of(merged.value("SetupType")) == 0 and value_of(merged, "CmdLine") == ""
    assert value_of(bench.control("Control"), "FirmwareBootDevice").endswith("partition(3)")


@pytest.mark.parametrize("name", ["SystemSetupInProgress", "OOBEInProgress"])
def test_a_setup_in_progress_is_refused(name: str) -> None:
    source, target = pair()
    set_number(source.root.make("Setup"), name, 1)
    assert findings(run(RULE, source, target)) == ["setup-unfinished"]


def test_a_bug_check_stays_on_the_screen_and_no_memory_image_is_resumed() -> None:
    source, target = pair()
    set_number(source.cs.make("Control\\CrashControl"), "AutoReboot", 1)
    set_number(source.cs.make("Control\\Session Manager\\Power"), "HiberbootEnabled", 1)
    source.file("hiberfil.sys")
    assert ids(run(RULE, source, target)) == ["setup/auto-reboot", "setup/fast-startup", "setup/hiberfil"]


def test_seven_has_no_fast_startup() -> None:
    source, target = pair(7601)
    source.cs.remove("Control\\Session Manager\\Power")
    assert ids(run(RULE, source, target)) == []
