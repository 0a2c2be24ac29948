"""Class filters: target's order, what survives of the source's, nothing that dangles."""

from __future__ import annotations

import pytest

from livelift.adapt.windows import boot_drivers, classes
from livelift.adapt.windows.bench import Bench
from livelift.registry.values import list_of, set_number
from tests.adapt.windows.machine import DISK, Maker, findings, ids, pair, run

VOLUME = "{71a27cdd-812a-11d0-bec7-08002be2092f}"


def merged(bench: Bench, guid: str = DISK, name: str = "UpperFilters") -> list[str]:
    key = bench.control(f"Control\\Class\\{guid}")
    assert key is not None
    return list_of(key.value(name))


def test_the_sources_filter_follows_the_targets() -> None:
    source, target = pair()
    source.service("snapfilt", group="PnP Filter")
    source.filters(DISK, "DiskDrive", "UpperFilters", ["snapfilt", "PartMgr"])
    target.service("raidfilt")
    target.filters(DISK, "DiskDrive", "UpperFilters", ["raidfilt", "partmgr"])
    bench = run(classes.RULE, source, target)
    assert merged(bench) == ["raidfilt", "partmgr", "snapfilt"]
    assert findings(bench) == ["filters-kept"]


@pytest.mark.parametrize("why", ["no service", "disabled", "no file", "disabled by a rule"])
def test_a_filter_that_cannot_run_goes(why: str) -> None:
    source, target = pair()
    if why != "no service":
        source.service(
            "prl_strg" if why == "disabled by a rule" else "x", 4 if why == "disabled" else 0, file=why != "no file"
        )
    source.filters(DISK, "DiskDrive", "LowerFilters", ["prl_strg" if why == "disabled by a rule" else "x"])
    bench = run(boot_drivers.RULE, source, target)
    classes.plan(bench)
    assert merged(bench, name="LowerFilters") == []
    assert "filters-kept" not in findings(bench)


def test_a_dangling_filter_of_the_target_goes_too() -> None:
    source, target = pair()
    target.filters(DISK, "DiskDrive", "UpperFilters", ["partmgr", "gone"])
    bench = run(classes.RULE, source, target)
    assert merged(bench) == ["partmgr"]
    assert findings(bench) == ["filters-dropped-upperfilters"]


def test_a_class_that_only_the_source_has_stays_without_instances() -> None:
    source, target = pair()
    source.device("USB\\TOKEN\\1", "tokendrv", VOLUME, 3)
    source.filters(VOLUME, "Token", "UpperFilters", ["partmgr"])
    bench = run(classes.RULE, source, target)
    key = bench.control(f"Control\\Class\\{VOLUME}")
    assert key is not None and len(key) == 0 and merged(bench, VOLUME) == ["partmgr"]
    assert [id for id in ids(bench) if VOLUME in id] == [f"classes/{VOLUME}", f"classes/{VOLUME}/0003"]


def test_equal_machines_need_no_edit() -> None:
    source, target = Maker(), Maker()
    assert ids(run(classes.RULE, source, target)) == []


def test_no_listing_of_the_place_is_no_reason_to_drop() -> None:
    source, target = pair()
    key = source.service("cfilt", image="\\??\\C:\\Vendor\\cfilt.sys", file=False)
    set_number(key, "Start", 0)
    source.filters(DISK, "DiskDrive", "UpperFilters", ["cfilt"])
    assert merged(run(classes.RULE, source, target)) == ["partmgr", "cfilt"]
