"""Settings that may stop the target."""

from __future__ import annotations

from livelift.adapt.windows.policies import RESTRICTIONS, RULE
from livelift.adapt.windows.system import SOFTWARE
from livelift.registry.tree import Hive, Key
from livelift.registry.values import number_of, set_list, set_number
from tests.adapt.windows.machine import findings, ids, pair, run


def test_disks_come_online() -> None:
    source, target = pair()
    set_number(source.cs.make("Services\\partmgr\\Parameters"), "SanPolicy", 3)
    bench = run(RULE, source, target)
    key = bench.control("Services\\partmgr\\Parameters")
    assert key is not None and number_of(key.value("SanPolicy")) == 1


def test_a_paging_file_on_a_letter_that_is_gone_and_another_clock_are_told() -> None:
    source, target = pair()
    paging = ["C:\\pagefile.sys 0 0", "\\??\\P:\\pagefile.sys 1 2", "?:\\pagefile.sys"]
    set_list(source.cs.make("Control\\Session Manager\\Memory Management"), "PagingFiles", paging)
    set_number(target.cs.make("Control\\TimeZoneInformation"), "RealTimeIsUniversal", 1)
    bench = run(RULE, source, target)
    assert ids(bench) == [] and findings(bench) == ["paging-file", "clock-differs"]


def test_a_policy_against_new_devices_is_told() -> None:
    source, target = pair()
    machine = source.done()
    software = Key("ROOT")
    set_number(software.make(RESTRICTIONS), "DenyUnspecified", 1)
    machine.hives[SOFTWARE] = Hive(software)
    bench = run(RULE, source, target)
    bench.source = machine
    RULE.plan(bench)
    assert findings(bench) == ["device-install-restricted"]
