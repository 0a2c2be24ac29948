"""StartOverride as on the target."""

from __future__ import annotations

from livelift.adapt.windows.start_override import RULE
from livelift.registry.values import number_of
from tests.adapt.windows.machine import ids, pair, run


def test_an_override_that_the_target_has_not_goes() -> None:
    source, target = pair()
    source.service("storahci", group="SCSI miniport", override=3)
    bench = run(RULE, source, target)
    assert ids(bench) == ["start-override/storahci"]
    service = bench.control("Services\\storahci")
    assert service is not None and service.get("StartOverride") is None


def test_one_that_the_target_has_comes() -> None:
    source, target = pair()
    source.service("stornvme", group="SCSI miniport")
    target.service("stornvme", group="SCSI miniport", override=3)
    override = run(RULE, source, target).control("Services\\stornvme\\StartOverride")
    assert override is not None and number_of(override.value("0")) == 3


def test_a_bus_driver_counts_even_where_it_starts_on_demand() -> None:
    source, target = pair()
    source.service("vpci", 3, override=3)
    target.service("vpci", 3)
    assert ids(run(RULE, source, target)) == ["start-override/vpci"]


def test_drivers_that_are_not_of_the_boot_and_services_of_one_side_stay() -> None:
    source, target = pair()
    source.service("sound", 3, override=3)
    target.service("sound", 3)
    source.service("mine", group="SCSI miniport", override=3)
    assert ids(run(RULE, source, target)) == []
